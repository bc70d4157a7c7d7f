################################################################################
#
# What all packages of Holdfast have in common, and what is changed for its
# image in the packages of Buildroot
#
################################################################################

include $(BR2_EXTERNAL_HOLDFAST_PATH)/flags.mk
include $(BR2_EXTERNAL_HOLDFAST_PATH)/holdfast.mk
# Behind what says which board it is.
include $(BR2_EXTERNAL_HOLDFAST_PATH)/boards.mk
include $(sort $(wildcard $(BR2_EXTERNAL_HOLDFAST_PATH)/package/*/*.mk))
ifeq ($(BR2_HOLDFAST),y)
include $(BR2_EXTERNAL_HOLDFAST_PATH)/checks.mk
include $(BR2_EXTERNAL_HOLDFAST_PATH)/kernel-and-boot-loader.mk

# After a change of the checkout or of the image manifest, which Buildroot does
# not look at: builds the programs again, and the image.
.PHONY: holdfast-rebuild
holdfast-rebuild: \
	$(foreach p,$(HOLDFAST_PROGRAM_PACKAGES),$($(p)_NAME)-dirclean) \
	$(addsuffix -dirclean,host-holdfast-crates $(HOLDFAST_HOST_TOOL_PACKAGE))
	$(MAKE1) $(EXTRAMAKEARGS) all
endif
