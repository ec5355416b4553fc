#!/bin/sh
# develop.sh PROMPT [FOLDER]: each preview of a picture as a file of FOLDER, while it forms.
set -eu
prompt=${1:?"usage: develop.sh PROMPT [FOLDER]"}
folder=${2:-.}
mkdir -p "$folder"

# -N: each event is printed when it comes. --data-urlencode takes any prompt as it is.
curl -sSfN -G "${DAGUERRE:-http://127.0.0.1:8080}/stream" --data-urlencode "prompt=$prompt" -d preview_every=1 |
  while IFS= read -r line; do
    case $line in
      *'"type":"preview"'*) name=step-$(printf '%s' "$line" | sed 's/.*"step":\([0-9]*\).*/\1/') ;;
      *'"type":"result"'*) name=result ;;
      *'"type":"error"'*) printf '%s\n' "${line#data: }" >&2 && exit 1 ;;
      *) continue ;;
    esac
    printf '%s' "$line" | sed 's/.*"image":{"url":"data:[^,]*,\([^"]*\)".*/\1/' | base64 -d >"$folder/$name.jpg"
    printf '%s\n' "$folder/$name.jpg"
  done
