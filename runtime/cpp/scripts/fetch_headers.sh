#!/bin/sh
# Put the headers that the build needs and the machine lacks below DIR, through apt and the Debian mirror that the machine is
# set up with; the system itself stays as it is. Says where each header is; fails, with the reason, when one that is needed cannot be had.
#
#   scripts/fetch_headers.sh DIR          then: cmake -DALTERBUTE_HEADERS=DIR ...
set -eu

dir=${1:?usage: fetch_headers.sh DIR}
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)

have() { # HEADER: already here, or installed
  for root in "$dir/usr/include" /usr/include /usr/local/include; do
    [ -e "$root/$1" ] && echo "$1: $root" && return 0
  done
  return 1
}

# The mirror's own address, as apt knows it: that of the release's main archive, not of its security updates.
mirror() {
  apt-get indextargets --format '$(REPO_URI) $(SUITE)' | awk '$2 !~ /security/ { print $1; exit }'
}

# An apt of its own below DIR, which knows one suite only.
private_apt() { # SUITE COMMAND...
  state="$dir/.apt-$1"
  mkdir -p "$state/parts" "$state/lists/partial" "$state/cache/archives/partial"
  : > "$state/status"
  keyring=/usr/share/keyrings/debian-archive-keyring.gpg
  echo "deb [signed-by=$keyring] $(mirror) $1 main" > "$state/sources.list"
  shift
  apt-get -qq -o Dir::Etc::SourceList="$state/sources.list" -o Dir::Etc::SourceParts="$state/parts" -o Dir::State::Lists="$state/lists" \
    -o Dir::State::status="$state/status" -o Dir::Cache="$state/cache" -o APT::Sandbox::User=root "$@"
}

fetch() { # HEADER PACKAGE SUITE...: from the first suite that has the package
  have "$1" && return 0
  command -v apt-get > /dev/null && command -v dpkg-deb > /dev/null || { echo "$1: not installed, and there is no apt to fetch $2 with" >&2; exit 1; }
  header=$1 package=$2
  shift 2
  for suite in "$@"; do
    work=$(mktemp -d "$dir/.fetch-XXXXXX")
    if private_apt "$suite" update > "$work/log" 2>&1 && (cd "$work" && private_apt "$suite" download "$package" >> log 2>&1); then
      dpkg-deb -x "$work"/*.deb "$dir"
      rm -rf "$work"
      have "$header" && return 0
    fi
    cat "$work/log" >&2 2> /dev/null || true
    rm -rf "$work"
  done
  echo "$header: no suite of $* gave $package" >&2
  exit 1
}

fetch nlohmann/json.hpp nlohmann-json3-dev bookworm trixie
fetch onnxruntime/onnxruntime_c_api.h libonnxruntime-dev trixie sid
# Optional: without it, pictures with colour profiles are refused. The library itself, liblcms2-2, has to be installed.
(fetch lcms2.h liblcms2-dev bookworm trixie) || echo "lcms2.h: not had; pictures with colour profiles will be refused" >&2
rm -rf "$dir"/.apt-*
