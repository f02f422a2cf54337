#!/bin/sh
# Replaces a directory in /etc/dfw by that of the same name in another directory, where an empty one stands for
# none: `replace.sh DIRECTORY NAME`. A reader sees the old files, none, or the new ones, and never a mixture. While
# there are none, guard keeps the rules in force.
set -eu
source=$1/$2 target=/etc/dfw/$2
mkdir -p /etc/dfw
rm -rf "$target.new" "$target.old"
if [ -n "$(ls -A "$source")" ]; then
    cp -dR --preserve=mode,timestamps "$source" "$target.new"
fi
if [ -e "$target" ]; then mv -T "$target" "$target.old"; fi
if [ -e "$target.new" ]; then mv -T "$target.new" "$target"; fi
rm -rf "$target.old"
