# The shape: one row per function and one per topic; everything else follows from these two tables.

locals {
  # trigger          schedule: Scheduler, each minute · topics: pushed by Pub/Sub · public: anybody
  # timeout_seconds  a scheduled function ends before the next minute; a pushed one before its message comes again
  # ack_seconds      after this long a message is delivered again, whatever the handler answers later
  # max_instances    risk 1, with concurrency 1: a sweep never overlaps itself. The records' compare-and-set would
  #                  still keep two apart, as it must in the seconds in which the platform replaces an instance.
  # keys             whose agent keys it is given; nobody else can read them
  # venue            whether it calls the venue, and so leaves by the fixed address when there is one
  functions = {
    ingest = {
      trigger         = "schedule", schedule = "* * * * *", topics = [], publishes = ["candles", "events"]
      memory          = "512Mi", concurrency = 1, min_instances = 0, max_instances = 1
      timeout_seconds = 55, ack_seconds = null
      keys            = [], store = true, venue = true
    }
    webhook = {
      trigger = "public", schedule = null, topics = [], publishes = ["alerts"]
      # TradingView waits 3 s in all, so that one instance is kept warm.
      memory          = "512Mi", concurrency = 16, min_instances = 1, max_instances = 3
      timeout_seconds = 10, ack_seconds = null
      keys            = [], store = false, venue = false
    }
    signal = {
      trigger         = "topics", schedule = null, topics = ["candles", "alerts"]
      publishes       = ["intents", "closes", "events", "candles-dead", "alerts-dead", "unknown-dead"]
      memory          = "512Mi", concurrency = 8, min_instances = 0, max_instances = 3
      timeout_seconds = 30, ack_seconds = 60
      keys            = [], store = true, venue = false
    }
    execute = {
      trigger   = "topics", schedule = null, topics = ["intents", "closes"]
      publishes = ["events", "intents-dead", "closes-dead", "unknown-dead"]
      # A limit entry rests up to 45 s, its hedge has 10 s, and an unwinding waits for its proofs.
      memory          = "512Mi", concurrency = 4, min_instances = 0, max_instances = 4
      timeout_seconds = 240, ack_seconds = 300
      keys            = ["EXECUTE"], store = true, venue = true
    }
    risk = {
      trigger         = "schedule", schedule = "* * * * *", topics = [], publishes = ["events"]
      memory          = "512Mi", concurrency = 1, min_instances = 0, max_instances = 1
      timeout_seconds = 55, ack_seconds = null
      keys            = ["RISK", "EMERGENCY"], store = true, venue = true
    }
  }

  # ordered   one message per ordering key at a time (venue:market, market, or account:market)
  # attempts  deliveries before a message goes to <topic>-dead; an exit is tried for longest
  topics = {
    candles = { ordered = true, attempts = 10, backoff_min = "1s", backoff_max = "10s" }
    alerts  = { ordered = true, attempts = 10, backoff_min = "1s", backoff_max = "10s" }
    intents = { ordered = true, attempts = 10, backoff_min = "1s", backoff_max = "20s" }
    closes  = { ordered = false, attempts = 100, backoff_min = "1s", backoff_max = "30s" }
    events  = { ordered = false, attempts = 20, backoff_min = "10s", backoff_max = "600s" }
  }

  # What could not even be read has no topic of its own.
  dead_topics = toset([for topic in concat(keys(local.topics), ["unknown"]) : "${topic}-dead"])

  # topic → the function it is pushed to
  pushed = merge([for name, f in local.functions : { for topic in f.topics : topic => name }]...)

  deployed    = var.image == null ? {} : local.functions
  config_text = var.config_file == null ? "" : file(var.config_file)

  services = toset([
    "artifactregistry.googleapis.com",
    "bigquery.googleapis.com",
    "billingbudgets.googleapis.com",
    "cloudbuild.googleapis.com",
    "cloudresourcemanager.googleapis.com",
    "cloudscheduler.googleapis.com",
    "compute.googleapis.com",
    "firebaserules.googleapis.com",
    "firestore.googleapis.com",
    "iam.googleapis.com",
    "iamcredentials.googleapis.com",
    "logging.googleapis.com",
    "monitoring.googleapis.com",
    "pubsub.googleapis.com",
    "run.googleapis.com",
    "secretmanager.googleapis.com",
    "storage.googleapis.com",
  ])
}

data "google_project" "this" {
  project_id = var.project
}

resource "google_project_service" "needed" {
  for_each = local.services

  service            = each.value
  disable_on_destroy = false
}

resource "google_artifact_registry_repository" "images" {
  #checkov:skip=CKV_GCP_84:The image holds no secret; it is this repository and its packages
  repository_id = "twinleg"
  format        = "DOCKER"
  location      = var.region
  description   = "One image for all functions"

  cleanup_policies {
    id     = "keep-what-can-be-gone-back-to"
    action = "KEEP"
    most_recent_versions {
      keep_count = 20
    }
  }
  cleanup_policies {
    id     = "delete-old"
    action = "DELETE"
    condition {
      older_than = "7776000s"
    }
  }

  depends_on = [google_project_service.needed]
}

module "function" {
  source   = "./modules/function"
  for_each = local.deployed

  name            = each.key
  region          = var.region
  image           = var.image
  service_account = google_service_account.function[each.key].email

  env = {
    GOOGLE_CLOUD_PROJECT = var.project
    TWINLEG_RUNTIME      = "cloud"
    # Cloud Run's own front end appends the caller's address, once.
    TWINLEG_WEBHOOK__TRUST_FORWARDED_HOPS = "1"
  }
  # Keyed by name and read by name: what a function is not given here it may not read either.
  secret_env = { for name in local.secrets_of[each.key] : name => google_secret_manager_secret.secret[name].secret_id }
  config = {
    secret  = google_secret_manager_secret.config.secret_id
    version = google_secret_manager_secret_version.config[0].version
  }

  memory          = each.value.memory
  concurrency     = each.value.concurrency
  min_instances   = lookup(var.warm_instances, each.key, each.value.min_instances)
  max_instances   = each.value.max_instances
  timeout_seconds = each.value.timeout_seconds

  public = each.value.trigger == "public"
  invokers = {
    schedule = { scheduler = google_service_account.scheduler.member }
    topics   = { push = google_service_account.push.member }
    public   = {}
  }[each.value.trigger]

  network = !(var.static_egress && each.value.venue) ? null : {
    network    = google_compute_network.egress[0].id
    subnetwork = google_compute_subnetwork.egress[0].id
  }
  deletion_protection = var.deletion_protection

  # A revision cannot start before its account may read what it is given.
  depends_on = [
    google_secret_manager_secret_iam_member.reader,
    google_secret_manager_secret_iam_member.config,
    google_project_iam_member.datastore,
    google_compute_router_nat.egress,
  ]
}
