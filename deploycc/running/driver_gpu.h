/* What the driver does with a package for GPUs: runs on the GPU's memory, and which GPU it is.  Part of driver.c. */
static void *device_inputs[256], *device_outputs[256], *stream;

static void expect(int status, const char *what) {
    if (status != 0) {
        fail(what, call_last_error(handle));
    }
}

static void to_device(void) {
    for (uint32_t i = 0; i < call_input_count(); i++) {
        expect(call_device_malloc(handle, INPUT_INFO(i)->bytes, &device_inputs[i]), "device_malloc");
        expect(call_copy_to_device(handle, device_inputs[i], inputs[i], INPUT_INFO(i)->bytes), "copy_to_device");
    }
    for (uint32_t i = 0; i < call_output_count(); i++) {
        expect(call_device_malloc(handle, OUTPUT_INFO(i)->bytes, &device_outputs[i]), "device_malloc");
        expect(call_copy_to_device(handle, device_outputs[i], outputs[i], OUTPUT_INFO(i)->bytes), "copy_to_device");
    }
    expect(call_stream_create(handle, &stream), "stream_create");
}

static void from_device(void) {
    for (uint32_t i = 0; i < call_output_count(); i++) {
        expect(call_copy_from_device(handle, outputs[i], device_outputs[i], OUTPUT_INFO(i)->bytes),
               "copy_from_device");
        expect(call_device_free(handle, device_outputs[i]), "device_free");
    }
    for (uint32_t i = 0; i < call_input_count(); i++) {
        expect(call_device_free(handle, device_inputs[i]), "device_free");
    }
    expect(call_stream_destroy(handle, stream), "stream_destroy");
}

static void run_on_device(void) {
    expect(call_run_async(handle, (const void *const *)device_inputs, device_outputs, stream), "run_async");
    expect(call_stream_synchronize(handle, stream), "stream_synchronize");
    expect(call_synchronize(handle), "synchronize");
}

/* Which GPU, and which of the package's chips it is taken for. */
static void tell_gpu(int32_t device) {
    MODEL(gpu) gpu;
    if (call_device_info(device, &gpu) != 0) {
        fail("device_info", call_last_error(NULL));
    }
    for (char *letter = gpu.name; *letter != '\0'; letter++) {
        *letter = *letter < ' ' || *letter == '"' || *letter == '\\' ? ' ' : *letter;
    }
    printf("{\"chip\": %u, \"gpu\": \"%s\", \"code\": \"%s\"}\n", (unsigned)call_chip(handle), gpu.name, gpu.kernels);
}
