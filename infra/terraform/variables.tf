variable "project" {
  description = "The Google Cloud project's id. One project for play money and another for real money."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project))
    error_message = "project must be a project id, such as twinleg-paper: 6 to 30 lower-case letters, digits and hyphens."
  }
}

variable "mode" {
  description = "paper: play money. live: real money, which wants confirm_live and static_egress too."
  type        = string

  validation {
    condition     = contains(["paper", "live"], var.mode)
    error_message = "mode must be paper or live; there is no default, so that live is something you type."
  }
}

variable "confirm_live" {
  description = "Typed out when mode = live."
  type        = string
  default     = ""

  validation {
    condition     = var.mode != "live" || var.confirm_live == "I know this trades real money"
    error_message = "mode = live wants confirm_live = \"I know this trades real money\", in exactly these words."
  }
}

variable "static_egress" {
  description = "Call the venue from one fixed address (Direct VPC egress and Cloud NAT; it costs)."
  type        = bool
  default     = false

  validation {
    condition     = var.mode != "live" || var.static_egress
    error_message = "mode = live wants static_egress = true: keys of a live account are to be bound to one address where the venue can do so."
  }
}

variable "region" {
  description = "Where everything runs."
  type        = string
  default     = "europe-west1"

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.region))
    error_message = "region must be one region, such as europe-west1."
  }
}

variable "firestore_location" {
  description = "Where the records are; it can never be changed. null: the region. A multi-region costs twice as much."
  type        = string
  default     = null

  validation {
    condition     = var.firestore_location == null || can(regex("^([a-z]+-[a-z]+[0-9]+|eur3|nam5|nam7)$", var.firestore_location))
    error_message = "firestore_location must be one region, such as europe-west1, or eur3, nam5 or nam7."
  }
}

variable "image" {
  description = "The image by digest. null: everything but the functions, which is the first step of an empty project."
  type        = string
  default     = null

  validation {
    condition     = var.image == null || can(regex("@sha256:[0-9a-f]{64}$", var.image))
    error_message = "image must end in @sha256: and 64 hexadecimal digits, so that what was tested is what runs; a tag can move."
  }
}

variable "config_file" {
  description = "The twinleg.toml to run with. It names secrets and holds none. Wanted as soon as there is an image."
  type        = string
  default     = null

  validation {
    condition     = var.image == null || var.config_file != null
    error_message = "config_file must name the twinleg.toml to run with, because image is set."
  }
  validation {
    condition     = var.config_file == null || fileexists(coalesce(var.config_file, "none"))
    error_message = "config_file names no file; a relative path starts where terraform runs."
  }
}

variable "accounts" {
  description = "The accounts of the configuration: each gets three secrets, TWINLEG_<ACCOUNT>_<EXECUTE|RISK|EMERGENCY>_KEY."
  type        = list(string)
  default     = ["main", "hedge"]

  validation {
    condition     = length(var.accounts) >= 2 && length(distinct(var.accounts)) == length(var.accounts)
    error_message = "accounts must name at least two, each once: two opposite legs on one account net each other out."
  }
  validation {
    condition     = alltrue([for a in var.accounts : can(regex("^[a-z][a-z0-9]*(_[a-z0-9]+)*$", a))])
    error_message = "accounts must be lower-case letters and digits joined by single _, as in the configuration."
  }
}

variable "trading_keys" {
  description = "Give execute and risk their agent keys. false only where the venue is played with keys that need no secret."
  type        = bool
  default     = true

  validation {
    condition     = var.mode != "live" || var.trading_keys
    error_message = "mode = live wants trading_keys = true."
  }
}

variable "agent_keys_expire_on" {
  description = "The earliest day on which an agent key expires, YYYY-MM-DD: a person is told 14 days before. null: not watched."
  type        = string
  default     = null

  validation {
    condition     = var.agent_keys_expire_on == null || can(formatdate("YYYY", "${var.agent_keys_expire_on}T00:00:00Z"))
    error_message = "agent_keys_expire_on must be a day, such as 2027-05-01."
  }
  validation {
    condition     = var.mode != "live" || var.agent_keys_expire_on != null
    error_message = "mode = live wants agent_keys_expire_on: an expired key can neither enter nor protect."
  }
}

variable "paused" {
  description = "Stop the two schedules. Nothing is swept while this is true: for maintenance with nothing open."
  type        = bool
  default     = false
}

variable "warm_instances" {
  description = "Instances kept warm, by function (about 10 USD a month each): what is left out has the default of its row."
  type        = map(number)
  default     = {}

  validation {
    condition     = alltrue([for name in keys(var.warm_instances) : contains(["ingest", "signal", "execute", "risk", "webhook"], name)])
    error_message = "warm_instances must name functions: ingest, signal, execute, risk or webhook."
  }
  validation {
    condition     = alltrue([for count in values(var.warm_instances) : count >= 0 && count <= 1 && floor(count) == count])
    error_message = "warm_instances must be 0 or 1 each: one warm instance carries this load, and risk has only one."
  }
}

variable "point_in_time_recovery" {
  description = "Keep every version of every record for 7 days (billed as storage)."
  type        = bool
  default     = true
}

variable "backup_keep_days" {
  description = "How long Firestore's daily backups are kept, in days. 0: none are made."
  type        = number
  default     = 7

  validation {
    condition     = var.backup_keep_days >= 0 && var.backup_keep_days <= 98 && floor(var.backup_keep_days) == var.backup_keep_days
    error_message = "backup_keep_days must be a whole number from 0 (none) to 98, which is as long as Firestore keeps a backup."
  }
  validation {
    condition     = var.mode != "live" || var.backup_keep_days > 0
    error_message = "mode = live wants backup_keep_days of at least 1: the records say what is open and why."
  }
}

variable "backup_keep_weeks" {
  description = "How long Firestore's weekly backups are kept, in weeks. 0: none are made."
  type        = number
  default     = 5

  validation {
    condition     = var.backup_keep_weeks >= 0 && var.backup_keep_weeks <= 14 && floor(var.backup_keep_weeks) == var.backup_keep_weeks
    error_message = "backup_keep_weeks must be a whole number from 0 (none) to 14, which is as long as Firestore keeps a backup."
  }
}

variable "export_keep_days" {
  description = "How long the daily exports to Cloud Storage are kept, in days. 0: none are made."
  type        = number
  default     = 30

  validation {
    condition     = var.export_keep_days >= 0 && floor(var.export_keep_days) == var.export_keep_days
    error_message = "export_keep_days must be a whole number of days, or 0 for no exports."
  }
}

variable "deletion_protection" {
  description = "Refuse to delete the records, the functions and the table of events."
  type        = bool
  default     = true
}

variable "notification_email" {
  description = "Who is told when something needs a person."
  type        = string

  validation {
    condition     = can(regex("^[^@\\s]+@[^@\\s]+\\.[^@\\s]+$", var.notification_email))
    error_message = "notification_email must be an e-mail address."
  }
}

variable "alert_limits" {
  description = "Beyond which figures a person is told; what is left out has the default shown here."
  type = object({
    margin_ratio        = optional(number, 2)  # below; an account's value per maintenance margin, at 1 it is liquidated
    hedge_drift_percent = optional(number, 8)  # above; at hedge_drift_percent_max (10) the trade is closed
    unhedged_seconds    = optional(number, 10) # above; hedge_seconds_max
    sweep_seconds       = optional(number, 40) # above; at 55 a sweep is cut off
  })
  default  = {}
  nullable = false

  validation {
    condition     = var.alert_limits.margin_ratio > 1 && var.alert_limits.margin_ratio <= 100
    error_message = "alert_limits.margin_ratio must be above 1, where the venue liquidates, and at most 100."
  }
  validation {
    condition     = alltrue([for limit in values(var.alert_limits) : limit > 0])
    error_message = "alert_limits must all be above 0."
  }
  validation {
    condition     = var.alert_limits.sweep_seconds < 55
    error_message = "alert_limits.sweep_seconds must be below 55: a sweep is cut off there and would never be seen above it."
  }
}

variable "runbook_url" {
  description = "Where docs/runbook can be read, such as https://github.com/OWNER/twinleg/blob/main/docs/runbook: alarms then link their page there. They carry its text in any case."
  type        = string
  default     = null

  validation {
    condition     = var.runbook_url == null || can(regex("^https://[^\\s]+$", var.runbook_url))
    error_message = "runbook_url must be an address that begins with https://."
  }
}

variable "billing_account" {
  description = "For the budget alarm, such as 0X0X0X-0X0X0X-0X0X0X. null: no budget."
  type        = string
  default     = null

  validation {
    condition     = var.billing_account == null || can(regex("^[0-9A-F]{6}-[0-9A-F]{6}-[0-9A-F]{6}$", var.billing_account))
    error_message = "billing_account must be three groups of six hexadecimal digits: gcloud billing accounts list."
  }
}

variable "budget_monthly" {
  description = "What a month may cost, in the billing account's currency: told at 50, 90 and 100 per cent."
  type        = number
  default     = 50

  validation {
    condition     = var.budget_monthly >= 1 && floor(var.budget_monthly) == var.budget_monthly
    error_message = "budget_monthly must be a whole number of at least 1."
  }
}
