"""Reads Prometheus text as Prometheus' own library does, and prints it as JSON."""

import json
import sys

from prometheus_client.parser import text_string_to_metric_families

families = {}
with open(sys.argv[1]) as file:
    for family in text_string_to_metric_families(file.read()):
        assert family.name not in families, f"{family.name} is there twice"
        assert family.documentation, f"{family.name} has no help"
        assert family.type in ("counter", "gauge"), f"{family.name} is {family.type}"
        families[family.name] = {
            ",".join(sample.labels.values()): sample.value for sample in family.samples
        }
json.dump(families, sys.stdout)
