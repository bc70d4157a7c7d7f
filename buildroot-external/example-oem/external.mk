include $(sort $(wildcard $(BR2_EXTERNAL_EXAMPLE_OEM_PATH)/package/*/*.mk))
