#!/bin/sh
# Puts the image together: `holdfast image assemble` from what this build has made.
#
# Buildroot calls it with the directory of the images. What else it needs is exported by kernel-and-boot-loader.mk.
set -eu

images=$1
# The time in an image is that of Holdfast's commit, and not of Buildroot's release.
unset SOURCE_DATE_EPOCH

name=$(sed -n 's/^name *= *"\([^"]*\)".*/\1/p' "$HOLDFAST_IMAGE" | head -n 1)
if [ -z "$name" ]; then
	echo "Holdfast: $HOLDFAST_IMAGE: name: is missing" >&2
	exit 1
fi
parts=$images/$name.parts.toml

# A line of the file, where there is something to say.
line() {
	if [ -n "$2" ]; then
		printf '%s = "%s"\n' "$1" "$2"
	fi
}

source_line() {
	printf 'source = { version = "%s", sha256 = "%s", directory = "%s" }\n' "$1" "$2" "$3"
}

# The release of musl, as the library says that programs are linked with.
musl_version() {
	tr -c '[:print:]' '\n' <"$1" | grep -xE '[0-9]+\.[0-9]+\.[0-9]+' | head -n 1
}

# Without the path of the environment's file, which is another in each checkout; byte for byte as `image build` has it,
# which ends no last line.
without_environment() {
	printf '%s' "$(grep -v '^CONFIG_DEFAULT_ENV_FILE=' "$1")" >"$2"
}

compiler=$($HOLDFAST_COMPILER --version | head -n 1)
libc=$($HOLDFAST_COMPILER -print-file-name=libc.a)
musl=$(musl_version "$libc")
if [ -z "$musl" ]; then
	echo "Holdfast: $libc: does not say which release of musl it is" >&2
	exit 1
fi
without_environment "$HOLDFAST_UBOOT_DIR/.config" "$images/u-boot.config"
if [ -n "$HOLDFAST_SPARE_FRAGMENTS" ]; then
	without_environment "$HOLDFAST_UBOOT_DIR/.holdfast-spare-config" "$images/u-boot-spare.config"
fi
{
	echo '# Written by board/holdfast/post-image.sh: what the image is put together from.'
	line built_by "Buildroot $BR2_VERSION_FULL"
	line board "$HOLDFAST_BOARD"
	echo
	echo '[kernel]'
	line image zImage
	line config "$HOLDFAST_LINUX_DIR/.config"
	line device_tree "$HOLDFAST_LINUX_DTB"
	line compiler "$compiler"
	line patches "$HOLDFAST_CHECKOUT/kernel-config/patches"
	source_line "$HOLDFAST_LINUX_VERSION" "$HOLDFAST_LINUX_SHA256" "$HOLDFAST_LINUX_DIR"
	echo
	echo '[boot_loader]'
	line image u-boot-nodtb.bin
	line config u-boot.config
	line device_tree "$HOLDFAST_UBOOT_DTB"
	line first_stage "${HOLDFAST_FIRST_STAGE##*/}"
	if [ -n "$HOLDFAST_SPARE_FRAGMENTS" ]; then
		line spare_first_stage spare-first-stage
		line spare_config u-boot-spare.config
	fi
	source_line "$HOLDFAST_UBOOT_VERSION" "$HOLDFAST_UBOOT_SHA256" "$HOLDFAST_UBOOT_DIR"
	echo
	echo '[programs]'
	line directory holdfast-programs
	line strip "$HOLDFAST_STRIP"
	line sources "$HOLDFAST_PROGRAMS_DIR"
	line cargo "$HOST_DIR/bin/cargo"
	line rustc "$HOST_DIR/bin/rustc"
	printf 'lists = ['
	for list in $HOLDFAST_PROGRAM_LISTS; do
		printf '"%s", ' "$list"
	done
	echo ']'
	echo
	echo '[libc]'
	line version "$musl"
	if [ -n "$HOLDFAST_MUSL_DIR" ]; then
		line licence "$HOLDFAST_MUSL_DIR/COPYRIGHT"
	fi
} >"$parts"

set -- image assemble --image "$HOLDFAST_IMAGE" --parts "$parts" --output "$images/$name.img"
for app in $HOLDFAST_MORE_APPS; do
	set -- "$@" --app "$app"
done
if grep -q '^BR2_HOLDFAST_PRODUCTION=y' "$BR2_CONFIG"; then
	set -- "$@" --production
fi
exec "$HOLDFAST_HOST_TOOL" --checkout "$HOLDFAST_CHECKOUT" "$@"
