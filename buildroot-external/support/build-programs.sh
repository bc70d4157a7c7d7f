#!/bin/sh
# Builds the programs of a list, one cargo package at a time, and puts each where `image assemble` looks for it.
#
# LIST is what `holdfast image programs` prints. Of it, the programs are built whose place begins with PREFIX: cargo,
# with the arguments that follow, puts them into BUILT, and they are copied to their places below OUTPUT.
set -eu

if [ $# -lt 5 ]; then
	echo "usage: $0 LIST PREFIX BUILT OUTPUT CARGO-ARGUMENT..." >&2
	exit 2
fi
list=$1
prefix=$2
built=$3
output=$4
shift 4

tab=$(printf '\t')
rm -rf "$output"
while IFS=$tab read -r package features binary place; do
	# Neither the line about the sources nor another package's program.
	case $place in
	"$prefix"*) ;;
	*) continue ;;
	esac
	if [ "$features" = - ]; then
		cargo "$@" --package "$package" --bin "$binary" </dev/null
	else
		cargo "$@" --package "$package" --bin "$binary" --no-default-features \
			--features "$package/$(echo "$features" | sed "s|,|,$package/|g")" </dev/null
	fi
	mkdir -p "$output/${place%/*}"
	cp "$built/$binary" "$output/$place"
done <"$list"
