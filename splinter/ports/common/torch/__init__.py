"""What the systems share in torch: optimizer and trainer."""
