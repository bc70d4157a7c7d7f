#!/bin/sh
# Makes an archive of U-Boot's source as Debian has it, its patches applied: the same bytes wherever it is made.
#
# VERSION is Debian's, SHA256 that of the package's .dsc, which has the hashes of all others.
set -eu

if [ $# -ne 3 ]; then
	echo "usage: $0 VERSION SHA256 ARCHIVE" >&2
	exit 2
fi
version=$1
sha256=$2
archive=$3

mkdir -p "${archive%/*}"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"
if ! apt-get source --quiet --download-only "u-boot=$version"; then
	echo "Holdfast: U-Boot $version: apt has no such source package. Add a deb-src line to its sources" >&2
	echo "and run \`apt-get update\`, or put the archive at $archive" >&2
	exit 1
fi
echo "$sha256  $(echo ./*.dsc)" | sha256sum --check --quiet
dpkg-source --no-check -x ./*.dsc tree
rm -rf tree/.pc
tar --create --file "$archive.unfinished" --format=gnu --sort=name --mtime=@0 \
	--owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX \
	--transform "s|^tree|u-boot-$version|" tree
mv "$archive.unfinished" "$archive"
