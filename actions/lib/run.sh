#!/usr/bin/env bash
# run.sh COMMAND: runs one protected-registry command. Its settings are already in the environment.
set -euo pipefail

cli="${PROTECTED_REGISTRY_CLI_PATH:-}"
if [ -z "$cli" ]; then
  cli="$(type -P protected-registry || true)"
fi
if [ -z "$cli" ]; then
  echo "::error title=protected-registry is not on this runner::No binary is on PATH.%0Ahint: put it into the runner's image, or run actions/setup first and pass its output cli-path"
  exit 2
fi
if [ ! -x "$cli" ] || [ -d "$cli" ]; then
  cli="${cli//%/%25}" cli="${cli//$'\r'/%0D}" cli="${cli//$'\n'/%0A}"
  echo "::error title=protected-registry cannot be run::'$cli' is no executable file.%0Ahint: cli-path names the binary itself, not its folder"
  exit 2
fi
exec "$cli" "$@"
