# Play money. The project, the person and the configuration are given on the command line or as TF_VAR_…:
#   export TF_VAR_project=my-twinleg-paper TF_VAR_notification_email=me@example.com TF_VAR_config_file=../../cloud.toml
mode   = "paper"
region = "europe-west1"

# Cheapest: nothing warm. TradingView waits 3 s, and a webhook that starts cold may need longer: then that alert is
# missed. { webhook = 1 } keeps it warm, for about 10 USD a month.
warm_instances = { webhook = 0 }

static_egress       = false
deletion_protection = false
budget_monthly      = 20

# The daily backups and exports cost cents; every version of every record, which the sweep writes each minute, a little more.
point_in_time_recovery = false
