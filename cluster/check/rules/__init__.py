"""Every rule; a rule is one entry in the list of its module."""

from cluster.check.rules import containers, metrics, network, privileges, ray_start, schemas, scripts, secrets, versions

RULES = (
    *schemas.RULES,
    *network.RULES,
    *ray_start.RULES,
    *privileges.RULES,
    *containers.RULES,
    *secrets.RULES,
    *scripts.RULES,
    *versions.RULES,
    *metrics.RULES,
)
