"""paddle 3.3.1: a LayerNorm in float64 holds its epsilon as float32."""

import numpy as np
import paddle

x = np.random.default_rng(0).normal(size=(1, 8)) * 1e-3
found = paddle.nn.functional.layer_norm(paddle.to_tensor(x), [8], epsilon=1e-5).numpy()
exact, rounded = ((x - x.mean()) / np.sqrt(x.var() + e) for e in (1e-5, float(np.float32(1e-5))))
print(f"{np.abs(found - exact).max():.1e} off; with epsilon rounded to float32 {np.abs(found - rounded).max():.1e}")
assert np.abs(found - rounded).max() < 1e-13 < np.abs(found - exact).max()
