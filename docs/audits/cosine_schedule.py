"""paddlenlp 2.8.1: CosineDecayWithWarmup is back at its peak in the end: the defaults of its two kinds are swapped."""

from paddlenlp.transformers import CosineDecayWithWarmup

schedule = CosineDecayWithWarmup(1.0, 100, 0)
rates = []
for _ in range(100):
    rates.append(schedule.get_lr())
    schedule.step()
print(f"rates at updates 1, 50 and 100 of 100: {rates[0]:.2f}, {rates[49]:.2f}, {rates[-1]:.2f}; the last should be 0")
assert rates[-1] > 0.9
