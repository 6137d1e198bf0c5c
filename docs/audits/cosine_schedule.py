"""paddlenlp 2.8.1: CosineDecayWithWarmup, by its defaults, is back at its peak in the end instead of at 0."""

from paddlenlp.transformers import CosineDecayWithWarmup

schedule = CosineDecayWithWarmup(1.0, 100, 0)
rates = []
for _ in range(100):
    rates.append(schedule.get_lr())
    schedule.step()
print(f"rates at updates 1, 50 and 100 of 100: {rates[0]:.2f}, {rates[49]:.2f}, {rates[-1]:.2f}; the last should be 0")
assert rates[-1] > 0.9
