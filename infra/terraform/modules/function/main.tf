# One function: one Cloud Run service of the one image, told by its environment which function it is.

terraform {
  required_providers {
    google = {
      source = "hashicorp/google"
    }
  }
}

locals {
  config_folder = "/etc/twinleg"

  env = merge(var.env, {
    FUNCTION_TARGET = var.name
    FUNCTION_SOURCE = "/app/functions/${var.name}/main.py"
    TWINLEG_CONFIG  = "${local.config_folder}/twinleg.toml"
    THREADS         = tostring(var.concurrency)
  })
}

resource "google_cloud_run_v2_service" "this" {
  name                 = var.name
  location             = var.region
  ingress              = var.public ? "INGRESS_TRAFFIC_ALL" : "INGRESS_TRAFFIC_INTERNAL_ONLY"
  invoker_iam_disabled = var.public
  deletion_protection  = var.deletion_protection

  # Over all revisions together: while one replaces another there is not one instance of each.
  scaling {
    max_instance_count = var.max_instances
  }

  template {
    service_account                  = var.service_account
    timeout                          = "${var.timeout_seconds}s"
    max_instance_request_concurrency = var.concurrency

    scaling {
      min_instance_count = var.min_instances
      max_instance_count = var.max_instances
    }

    containers {
      image = var.image

      resources {
        limits = {
          cpu    = "1"
          memory = var.memory
        }
        # Billed by request. Written out, because a resources block without it means the opposite.
        cpu_idle          = true
        startup_cpu_boost = true
      }

      dynamic "env" {
        for_each = local.env
        content {
          name  = env.key
          value = env.value
        }
      }

      dynamic "env" {
        for_each = var.secret_env
        content {
          name = env.key
          value_source {
            secret_key_ref {
              secret  = env.value
              version = "latest"
            }
          }
        }
      }

      volume_mounts {
        name       = "config"
        mount_path = local.config_folder
      }
    }

    volumes {
      name = "config"
      secret {
        secret = var.config.secret
        # A fixed version: a changed configuration is a new revision, and going back brings the old one back.
        items {
          path    = "twinleg.toml"
          version = var.config.version
        }
      }
    }

    dynamic "vpc_access" {
      for_each = var.network == null ? [] : [var.network]
      content {
        egress = "ALL_TRAFFIC"
        network_interfaces {
          network    = vpc_access.value.network
          subnetwork = vpc_access.value.subnetwork
        }
      }
    }
  }

  traffic {
    type    = "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST"
    percent = 100
  }

  lifecycle {
    # The pipeline moves traffic after its smoke test, and a person moves it back: see cloudbuild.yaml.
    ignore_changes = [traffic, client, client_version]
  }
}

resource "google_cloud_run_v2_service_iam_member" "invoker" {
  for_each = var.invokers

  name     = google_cloud_run_v2_service.this.name
  location = var.region
  role     = "roles/run.invoker"
  member   = each.value
}
