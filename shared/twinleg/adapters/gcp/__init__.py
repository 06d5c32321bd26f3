"""Google's services. Here only the environment variables by which their emulators are found."""

FIRESTORE_VARIABLE, PUBSUB_VARIABLE = "FIRESTORE_EMULATOR_HOST", "PUBSUB_EMULATOR_HOST"
"""By which Google's own clients, and we, find an emulator that runs already."""
