# Sourced by the scripts that need a Docker daemon: takes the one that answers, else starts one for as long as
# the script runs, its images in the cache. (As root; on Debian it installs the package docker.io.)
# shellcheck shell=bash

docker_home=${METERFLOW_CACHE:-$HOME/.cache/meterflow}/docker

ensure_docker() {
  ! docker info >/dev/null 2>&1 || return 0
  export PATH="$PATH:/usr/sbin:/sbin"
  [ "$(id -u)" = 0 ] || { echo "no Docker daemon answers, and only root can start one" >&2; return 1; }
  command -v dockerd >/dev/null || install_docker
  mkdir -p "$docker_home"
  exec 8>"$docker_home/lock"
  flock 8 # one at a time: the images are in one folder
  export DOCKER_HOST=unix://$docker_home/docker.sock
  dockerd --data-root "$docker_home/data" --exec-root "$docker_home/exec" --pidfile "$docker_home/pid" \
    --host "$DOCKER_HOST" </dev/null >"$docker_home/dockerd.log" 2>&1 8>&- &
  daemon=$!
  trap stop_docker EXIT
  for _ in $(seq 150); do
    ! docker info >/dev/null 2>&1 || return 0
    kill -0 "$daemon" 2>/dev/null || break
    sleep 0.2
  done
  tail -n 5 "$docker_home/dockerd.log" >&2
  echo "the Docker daemon does not start, see $docker_home/dockerd.log" >&2
  return 1
}

install_docker() {
  echo "installing docker.io" >&2
  DEBIAN_FRONTEND=noninteractive apt-get update -qq </dev/null >&2
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends docker.io iptables </dev/null >&2
}

stop_docker() {
  kill "$daemon" 2>/dev/null || true
  wait "$daemon" 2>/dev/null || true
}

compose_command() { # the plugin, or the one of scripts/build-docker-compose
  if docker compose version >/dev/null 2>&1; then echo "docker compose"; else scripts/build-docker-compose; fi
}

compose() { $(compose_command) "$@"; }
