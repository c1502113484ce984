from collections import defaultdict, deque


class Meter:
    def __init__(self, window=20):
        self.values = deque(maxlen=window)

    def update(self, value):
        self.values.append(value)

    @property
    def mean(self):
        return sum(self.values) / max(1, len(self.values))


class MeterSet:
    def __init__(self):
        self.meters = defaultdict(Meter)

    def update(self, **values):
        for name, value in values.items():
            self.meters[name].update(value)

    def log_every(self, iterable, every, header):
        for i, item in enumerate(iterable):
            yield item
            if i % every == 0:
                print(header, i, {k: round(m.mean, 3) for k, m in self.meters.items()})
