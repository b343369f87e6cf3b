"""All guards of the picture."""

from tests.guards import (
    of_activity,
    of_claims,
    of_duplicates,
    of_events,
    of_installation,
    of_inventory,
    of_knowledge,
    of_listings,
    of_registration,
    of_watch,
)
from tests.guards.guard import Guard

GUARDS: tuple[Guard, ...] = (
    *of_claims.GUARDS,
    *of_events.GUARDS,
    *of_listings.GUARDS,
    *of_watch.GUARDS,
    *of_duplicates.GUARDS,
    *of_registration.GUARDS,
    *of_knowledge.GUARDS,
    *of_activity.GUARDS,
    *of_installation.GUARDS,
    *of_inventory.GUARDS,
)
