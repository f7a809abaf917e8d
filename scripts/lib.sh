# shellcheck shell=bash
# Sourced by the scripts beside it. They print shell code on stdout, so everything said goes to stderr.

say() { echo "${0##*/}: $*" >&2; }

# 2: this machine cannot do it (not root, no package, port taken); 1: it should have worked.
unable() { say "$*"; exit 2; }
broken() { say "$*"; exit 1; }

cache_dir() { # NAME
  local base=${XDG_CACHE_HOME:-}
  [[ $base ]] || base=${HOME:?neither HOME nor XDG_CACHE_HOME is set}/.cache
  echo "$base/s3direct-uploads/$1"
}

# One up or down at a time in a folder. The programs started must not inherit it: 9>&-
lock() { # FOLDER
  exec 9>"$1.lock"
  flock --wait 900 9 || broken "another $0 has held $1.lock for 15 minutes"
}

last_words() { # LOG: what apt or a server gives as its reason
  local line
  line=$(grep -E '^(E|dpkg): ' "$1" | tail -n 1) || line=$(grep . "$1" | tail -n 1) || line='no output'
  echo "$line"
}

# DPkg::Lock::Timeout waits for dpkg's lock alone; the locks on lists and archives need the loop.
apt() { # LOG apt-get's ARGUMENTS
  local log=$1 deadline=$((SECONDS + 300)) code
  shift
  while true; do
    code=0
    LC_ALL=C DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 "$@" \
      >"$log" 2>&1 </dev/null || code=$?
    if ((code == 0 || SECONDS > deadline)) || ! grep -q 'Could not get lock\|Unable to lock' "$log"; then
      return "$code"
    fi
    sleep 1
  done
}

apt_install() { # PACKAGES
  local log
  command -v apt-get >/dev/null || unable "needs $*, and there is no apt-get here to install it"
  [[ $EUID == 0 ]] || unable "needs $*; installing it needs root: apt-get install $*"
  log=$(mktemp)
  say "installing $*"
  # The lists may be missing or old: then the first try fails, and the second one has new ones.
  if ! apt "$log" install --no-install-recommends "$@"; then
    apt "$log" update || true
    apt "$log" install --no-install-recommends "$@" ||
      unable "cannot install $*: $(last_words "$log") (all of it in $log)"
  fi
  rm -f "$log"
}

valid_port() { # PORT
  if ! [[ $1 =~ ^[1-9][0-9]{3,4}$ ]] || (($1 < 1024 || $1 > 65000)); then
    unable "not a port from 1024 to 65000: $1"
  fi
}

listening() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; } # PORT

need_free() { # PORT COMMAND
  for _ in {1..20}; do # one that was just killed may need a moment
    listening "$1" || return 0
    sleep 0.05
  done
  unable "something else already listens on 127.0.0.1:$1; stop it or name another port: $2"
}

# Daemons write their PID file a moment after they have gone into the background.
wait_for_port() { # PORT PID_FILE
  local pid
  for _ in {1..600}; do
    pid=$(head -n 1 "$2" 2>/dev/null || true)
    if [[ $pid ]]; then
      [[ -e /proc/$pid/exe ]] || return 1 # gone, or a zombie
      ! listening "$1" || return 0
    fi
    sleep 0.05
  done
  return 1
}

# A recorded PID may by now be another program's: WHERE is a file or folder that /proc/PID/WHAT must be.
stop() { # PID COMM WHAT WHERE [SIGNAL]
  local pid=$1
  is_ours() { [[ $(cat "/proc/$pid/comm" 2>/dev/null) == "$1" && /proc/$pid/$2 -ef $3 ]]; }
  [[ $pid =~ ^[0-9]+$ ]] && is_ours "$2" "$3" "$4" || return 0
  kill "-${5:-TERM}" "$pid" 2>/dev/null || true
  for _ in {1..60}; do
    is_ours "$2" "$3" "$4" || return 0
    sleep 0.05
  done
  kill -KILL "$pid" 2>/dev/null || true
  while is_ours "$2" "$3" "$4"; do sleep 0.05; done
}
