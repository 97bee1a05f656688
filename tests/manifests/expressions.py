"""Expressions of Prometheus, and what they ask of the metrics that there are."""

import re

import promql_parser as promql

# What Prometheus adds to every series.
TARGET = {"namespace", "pod", "service", "container", "endpoint", "job", "instance"}
# What Grafana puts in their place.
VARIABLES = {"$__rate_interval": "5m", "$instance": ".*"}
# A label whose values come up one by one.
CLASSES = {"1xx", "2xx", "3xx", "4xx", "5xx"}
SAMPLE = re.compile(r'^([a-z_]+)(?:\{(.*)\})? (\S+)$')
LABEL = re.compile(r'([a-z_]+)="((?:[^"\\]|\\.)*)",?')


def parse(expression):
    """The expression, its types checked; ValueError where it is none."""
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    if "$" in expression:
        raise ValueError(f"a variable that is none in {expression}")
    return promql.parse(expression)


def selectors(expression):
    """Every selector of a series in an expression."""
    found = []

    def visit(it):
        if isinstance(it, promql.VectorSelector):
            found.append(it)
        elif isinstance(it, promql.MatrixSelector):
            found.append(it.vector_selector)

    promql.walk(expression, visit)
    return found


def grouped(expression):
    """Every label that an expression groups or matches by."""
    found = set()

    def visit(it):
        if isinstance(it, promql.AggregateExpr) and it.modifier:
            found.update(it.modifier.labels)
        elif isinstance(it, promql.BinaryExpr) and it.modifier and it.modifier.matching:
            found.update(it.modifier.matching.labels)

    promql.walk(expression, visit)
    return found


class Scrape:
    """What one scrape told: the labels of each series, by name."""

    def __init__(self, text):
        self.series = {"up": [{}]}
        self.families = set(re.findall(r"^# TYPE ([a-z_]+) ", text, re.MULTILINE))
        for line in text.splitlines():
            if not line.startswith("#"):
                name, labels, _ = SAMPLE.match(line).groups()
                self.series.setdefault(name, []).append(dict(LABEL.findall(labels or "")))

    def family(self, name):
        """The family of a series."""
        parts = [name, *(name.removesuffix(part) for part in ("_bucket", "_sum", "_count"))]
        return next((part for part in parts if part in self.families), None)

    def faults(self, text, more_labels=()):
        """What an expression asks for that is not there. `more_labels` are those of its legend."""
        expression = parse(text)
        labels = set(TARGET)
        for selector in selectors(expression):
            series = self.series.get(selector.name)
            if series is None:
                yield f"there is no metric {selector.name}: {text}"
                continue
            here = {label for labels in series for label in labels}
            labels |= here
            for matcher in selector.matchers.matchers:
                values = {labels.get(matcher.name) for labels in series}
                if matcher.name not in here | TARGET:
                    yield f"{selector.name} has no label {matcher.name}: {text}"
                elif matcher.name in here and matcher.op in (promql.MatchOp.Equal, promql.MatchOp.NotEqual):
                    if matcher.value not in values | CLASSES:
                        yield f"{selector.name} has no {matcher.name} {matcher.value}: {text}"
        for label in grouped(expression) | set(more_labels):
            if label not in labels:
                yield f"none of its metrics has a label {label}: {text}"
