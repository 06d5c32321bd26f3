# One fixed address for calls to the venue: Direct VPC egress into a network of our own, out through Cloud NAT.

resource "google_compute_network" "egress" {
  #checkov:skip=CKV2_GCP_18:A network made like this refuses everything from outside by its implied rule, and nothing in it listens
  count = var.static_egress ? 1 : 0

  name                    = "egress"
  auto_create_subnetworks = false

  depends_on = [google_project_service.needed]
}

resource "google_compute_subnetwork" "egress" {
  count = var.static_egress ? 1 : 0

  name          = "egress"
  network       = google_compute_network.egress[0].id
  region        = var.region
  ip_cidr_range = "10.8.0.0/24"
  # Google's own services are reached without passing NAT.
  private_ip_google_access = true
}

resource "google_compute_address" "egress" {
  count = var.static_egress ? 1 : 0

  name   = "egress"
  region = var.region

  depends_on = [google_project_service.needed]
}

resource "google_compute_router" "egress" {
  count = var.static_egress ? 1 : 0

  name    = "egress"
  network = google_compute_network.egress[0].id
  region  = var.region
}

resource "google_compute_router_nat" "egress" {
  count = var.static_egress ? 1 : 0

  name                               = "egress"
  router                             = google_compute_router.egress[0].name
  region                             = var.region
  nat_ip_allocate_option             = "MANUAL_ONLY"
  nat_ips                            = [google_compute_address.egress[0].id]
  source_subnetwork_ip_ranges_to_nat = "ALL_SUBNETWORKS_ALL_IP_RANGES"

  log_config {
    enable = true
    filter = "ERRORS_ONLY"
  }
}
