terraform {
  required_version = ">= 1.11"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "~> 8.7"
    }
  }

  # The bucket is named at init: terraform init -backend-config=bucket=PROJECT-tfstate
  backend "gcs" {
    prefix = "twinleg"
  }
}

provider "google" {
  project = var.project
  region  = var.region

  # Budgets are billed to a quota project, which user credentials do not bring along.
  user_project_override = true
  billing_project       = var.project
}
