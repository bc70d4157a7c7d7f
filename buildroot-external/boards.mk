################################################################################
#
# Generated from images/boards/: cargo test -p holdfast-builder --test buildroot
#
################################################################################

ifeq ($(HOLDFAST_BOARD),beaglebone-black)
HOLDFAST_LINUX_DTB = am335x-boneblack.dtb
HOLDFAST_UBOOT_DTB = u-boot.dtb
HOLDFAST_FIRST_STAGE = MLO
HOLDFAST_FIRST_STAGE_TARGET = spl/u-boot-spl.bin
endif

ifeq ($(HOLDFAST_BOARD),imx6ul-evk)
HOLDFAST_LINUX_DTB = imx6ul-14x14-evk.dtb
HOLDFAST_UBOOT_DTB = u-boot.dtb
HOLDFAST_FIRST_STAGE = SPL
HOLDFAST_FIRST_STAGE_TARGET = SPL
endif

ifeq ($(HOLDFAST_BOARD),orangepi-pc)
HOLDFAST_LINUX_DTB = sun8i-h3-orangepi-pc.dtb
HOLDFAST_UBOOT_DTB = u-boot.dtb
HOLDFAST_FIRST_STAGE = spl/sunxi-spl.bin
HOLDFAST_FIRST_STAGE_TARGET = spl/sunxi-spl.bin
HOLDFAST_SPARE_FRAGMENTS = $(HOLDFAST_CHECKOUT)/boot-loader/board-orangepi-pc-spare.config
endif

ifeq ($(HOLDFAST_BOARD),qemu-virt)
endif
