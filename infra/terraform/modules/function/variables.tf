variable "name" {
  description = "The service's name, the function's target and its folder: one word for all three."
  type        = string
}

variable "region" {
  type = string
}

variable "image" {
  type = string
}

variable "service_account" {
  description = "The e-mail of the account it runs as."
  type        = string
}

variable "env" {
  description = "Plain environment variables."
  type        = map(string)
}

variable "secret_env" {
  description = "Environment variable → secret, read when an instance starts."
  type        = map(string)
}

variable "config" {
  description = "The configuration: a secret's id and version, mounted as a file."
  type = object({
    secret  = string
    version = string
  })
}

variable "memory" {
  type = string
}

variable "concurrency" {
  description = "Requests at once in one instance; the server gets as many threads, so that none waits inside."
  type        = number
}

variable "min_instances" {
  type = number
}

variable "max_instances" {
  type = number

  validation {
    condition     = var.max_instances >= 1 && var.max_instances >= var.min_instances
    error_message = "max_instances must be at least 1 and at least min_instances."
  }
}

variable "timeout_seconds" {
  type = number
}

variable "public" {
  description = "Whether anybody may call it. What is not public is reached from inside the project only."
  type        = bool
}

variable "invokers" {
  description = "Who may call it: a label → an IAM member."
  type        = map(string)
}

variable "network" {
  description = "The network its calls leave by; null: the platform's own changing addresses."
  type = object({
    network    = string
    subnetwork = string
  })
}

variable "deletion_protection" {
  type = bool
}
