# Play money. The project, the person and the configuration are given on the command line or as TF_VAR_…:
#   export TF_VAR_project=my-twinleg-paper TF_VAR_notification_email=me@example.com TF_VAR_config_file=../../cloud.toml
mode   = "paper"
region = "europe-west1"

# Cheapest: nothing warm but the webhook, whose caller waits 3 s. { webhook = 0 } saves that too and misses alerts.
warm_instances = {}

static_egress       = false
deletion_protection = false
budget_monthly      = 20
