"""What the systems share in Paddle: encoder, weights in and out, optimizer and trainer."""
