#!/usr/bin/env bash
# Makes the protected-registry binary available: one that is already here, or one from a mirror whose SHA-256 is known.
#   SETUP_BINARY_PATH, or SETUP_URL and SETUP_SHA256; writes the output cli-path
set -euo pipefail

binary_path="${SETUP_BINARY_PATH:-}"
url="${SETUP_URL:-}"
expected="${SETUP_SHA256:-}"

fail() { # fail TITLE MESSAGE: an annotation, whose text cannot start another command
  local message="$2"
  message="${message//%/%25}" message="${message//$'\r'/%0D}" message="${message//$'\n'/%0A}"
  echo "::error title=$1::$message"
  exit 2
}

sha256_of() {
  if type -P sha256sum > /dev/null; then
    sha256sum < "$1" | cut -c1-64
  else
    shasum -a 256 < "$1" | cut -c1-64
  fi
}

finish() { # finish BINARY: proves that it runs on this machine, then hands on its path
  "$1" --version || fail "protected-registry does not run here" "'$1' does not start; is it built for ${RUNNER_OS:-this system} on ${RUNNER_ARCH:-this processor}?"
  echo "cli-path=$1" >> "$GITHUB_OUTPUT"
  exit 0
}

case "$binary_path$url" in
  *$'\n'* | *$'\r'*) fail "protected-registry is not set up" "A path or URL has a line end in it." ;;
esac
expected="$(printf '%s' "$expected" | tr 'A-F' 'a-f')"
if [ -n "$expected" ] && ! [[ "$expected" =~ ^[0-9a-f]{64}$ ]]; then
  fail "protected-registry is not set up" "The SHA-256 must be 64 hexadecimal digits."
fi

if [ -n "$binary_path" ]; then
  [ -z "$url" ] || fail "protected-registry is not set up" "Give the path of a binary or a URL, not both."
  { [ -x "$binary_path" ] && [ ! -d "$binary_path" ]; } ||
    fail "protected-registry is not set up" "'$binary_path' is no executable file."
  if [ -n "$expected" ]; then
    actual="$(sha256_of "$binary_path")"
    [ "$actual" = "$expected" ] ||
      fail "protected-registry is not the expected binary" "'$binary_path' has SHA-256 $actual, expected $expected."
  fi
  finish "$binary_path"
fi

[ -n "$url" ] || fail "protected-registry is not set up" "Give the path of a binary, or a URL with its SHA-256."
[ -n "$expected" ] ||
  fail "protected-registry is not set up" "A URL needs the SHA-256 of the binary: nothing is run that was not expected."
case "$url" in
  *@*) fail "protected-registry is not set up" "The URL has an '@' in it: a mirror gets no credential." ;;
  https://* | file:///*) ;;
  *) fail "protected-registry is not set up" "The URL must start with https:// or file:///." ;;
esac

# The folder is named by the content, so versions never meet; the content is looked at again on every use.
folder="${RUNNER_TOOL_CACHE:-${RUNNER_TEMP:?}}/protected-registry/$expected"
name=protected-registry
if [ "${RUNNER_OS:-}" = Windows ]; then name=protected-registry.exe; fi
binary="$folder/$name"
if [ -f "$binary" ]; then
  if [ "$(sha256_of "$binary")" = "$expected" ]; then finish "$binary"; fi
  echo "::warning title=protected-registry was changed in the tool cache::It is fetched again."
fi

mkdir -p "$folder"
download="$(mktemp "$folder/download.XXXXXX")"
trap 'rm -f "$download"' EXIT
# First -q: no .curlrc of the runner adds a credential or drops a check. A redirect may only lead to https.
curl -q --proto '=https,file' --proto-redir '=https' --fail --location --silent --show-error \
  --connect-timeout 20 --max-time 300 --max-filesize 268435456 --retry 3 --output "$download" -- "$url" ||
  fail "protected-registry could not be fetched" "No answer that counts from $url"
actual="$(sha256_of "$download")"
[ "$actual" = "$expected" ] ||
  fail "protected-registry is not the expected binary" "$url has SHA-256 $actual, expected $expected."
chmod 0755 "$download"
mv -f "$download" "$binary"
finish "$binary"
