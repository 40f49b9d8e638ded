# From exec to the first echoed byte, with the other end up. Sourced by ../tunnel.sh.
# shellcheck shell=bash

hex() { base64 -d <"$1" | od -An -v -tx1 | tr -d ' \n'; }

# Ends the end `a`, and starts it anew several times.
row_start() {
    local tries=5 value command
    [ -z "$quick" ] || tries=2
    end_stop a
    printf 'set=1\nprivate_key=%s\nlisten_port=51001\npublic_key=%s\nendpoint=192.0.2.2:51002\nallowed_ip=0.0.0.0/0\n\n' \
        "$(hex "$work/a.key")" "$(hex "$work/b.pub")" >"$work/request"
    command=$(command_of "$program")
    for _ in $(seq "$tries"); do
        rm -f /run/wireguard/bencha.sock
        # shellcheck disable=SC2086 # a command may have arguments
        value=$(LOG_LEVEL=error in_a "$work/start" 10.9.0.2 7 -u bencha "$work/request" 10.9.0.1 \
            $command -f bencha 2>"$work/a.log") || continue
        tell start.device "$value"
    done
    [ "$program" != seedwire ] || start_run "$tries"
}

# The same for the daemon with a configuration file, which sets up all by itself.
start_run() { # TRIES
    local value
    cat >"$work/run.yaml" <<CONFIG
tunnel:
  interface: bencha
  backend: userspace
  addresses: [10.9.0.1/24]
  privateKeyFile: $work/a.key
  listenPort: 51001
  peers:
    - name: b
      publicKey: $(cat "$work/b.pub")
      endpoint: 192.0.2.2:51002
      allowedIPs: [10.9.0.0/24]
control: {http: "127.0.0.1:9586", socket: $work/control.sock}
CONFIG
    for _ in $(seq "$1"); do
        value=$(in_a "$work/start" 10.9.0.2 7 "$seedwire" run -c "$work/run.yaml" 2>"$work/a.log") || continue
        tell start.run "$value"
    done
}
