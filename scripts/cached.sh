# Sourced by the scripts that put something into the cache, outside the tree: built aside and renamed when it
# is whole, by one run at a time. A second run takes no time.
# shellcheck shell=bash

cache=${METERFLOW_CACHE:-$HOME/.cache/meterflow}

fail() { echo "$(basename "$0"): $*" >&2; exit 1; }

need() { # PROGRAM HOW-TO-GET-IT
  command -v "$1" >/dev/null || fail "$1 is missing: $2"
}

# cached NAME FILE MINUTES "$@": prints the path of FILE in the cache's folder NAME. Where it is missing it is
# made by the function `build FOLDER`, which leaves FOLDER/FILE. With --is-there as last argument it only says,
# by its exit code, whether it is there.
cached() {
  local name=$1 file=$2 how_long=$3 ask=${4:-}
  local target=$cache/$name/$file log=$cache/$name.log work
  if [ "$ask" = --is-there ]; then [ -e "$target" ] || exit 1; exit 0; fi
  [ ! -e "$target" ] || { echo "$target"; exit 0; }
  check_tools
  mkdir -p "$cache/$name"
  exec 9>"$cache/$name.lock"
  flock 9 # another run may be at it: wait for it, then it is there
  [ ! -e "$target" ] || { echo "$target"; exit 0; }
  work=$(mktemp -d "$cache/making-$name.XXXXXX")
  trap "rm -rf '$work'" EXIT
  echo "making $name ($how_long the first time; the log: $log) ..." >&2
  (build "$work") >"$log" 2>&1 9>&- </dev/null || { tail -n 20 "$log" >&2; fail "that failed, see $log"; }
  mv -T "$work/$file" "$target"
  echo "$target"
}

# Whether Go is at least that version. The toolchain that is there is used; none is fetched.
need_go() { # VERSION
  export GOTOOLCHAIN=local GOFLAGS=-mod=readonly
  need go "Go $1 or newer, from its own distribution or (Debian 13) apt-get install golang-go"
  local version
  version=$(go env GOVERSION)
  [ "$(printf '%s\n' "go$1" "$version" | sort -V | head -n 1)" = "go$1" ] ||
    fail "Go $1 or newer is needed, this one is $version"
}

version_in() { # MODULE FILE: the version, without its v, that a go.mod requires
  awk -v module="$1" '$1 == module { print substr($2, 2) } $2 == module { print substr($3, 2) }' "$2" | head -n 1
}
