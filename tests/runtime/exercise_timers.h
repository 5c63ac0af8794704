/* Exercises of who watches a run: observers, and the timers of a model that has them. */

static const dcc_model timed = {DCC_ABI, 1, 1, 3, "timed", &input, &output, names, COUNT * sizeof(float),
                                COUNT * sizeof(float), COUNT * sizeof(float), scale_steps, 1};

typedef struct {
    uint32_t next, wrong;
    const float *arena;
} seen;

static void look(void *context_, uint32_t step, const void *arena) {
    seen *s = context_;
    s->wrong += step != s->next++ % 2;
    s->arena = arena;
}

static void dawdle(void *count, uint32_t step, const void *arena) {
    (void)step, (void)arena;
    ++*(int *)count;
    usleep(20000);
}

static void observed(void) {
    CHECK(dcc_observe(NULL, look, NULL) == DCC_ERROR_ARGUMENT);
    const dcc_model *models[] = {&scale, &timed};
    for (int i = 0; i < 2; i++) {
        for (int32_t count = 1; count <= 3; count++) {
            dcc_handle *handle = make(models[i], count);
            seen all = {0, 0, NULL};
            run_and_check(handle, 1.0f);
            CHECK(dcc_observe(handle, look, &all) == DCC_OK);
            CHECK(all.next == 0);
            for (int k = 1; k <= 20; k++) {
                buffers *b = fill((float)k);
                CHECK(run(handle, b) == DCC_OK && tripled(b));
                CHECK(all.next == 2 * (uint32_t)k && all.wrong == 0);
                CHECK(memcmp(all.arena, b->out, sizeof b->out) == 0);
                free(b);
            }
            CHECK(dcc_observe(handle, NULL, NULL) == DCC_OK);
            run_and_check(handle, 2.0f);
            CHECK(all.next == 40);
            CHECK(dcc_destroy(handle) == DCC_OK);
        }
    }
}

static int32_t resting_steps(const void *const *in, void *const *out, void *arena, uint32_t *step,
                             const dcc_watch *watch) {
    usleep(5000);
    return scale_steps(in, out, arena, step, watch);
}
static const dcc_model resting = {DCC_ABI, 1, 1, 3, "resting", &input, &output, names, COUNT * sizeof(float),
                                  COUNT * sizeof(float), COUNT * sizeof(float), resting_steps, 1};

static int32_t empty_steps(const void *const *in, void *const *out, void *arena, uint32_t *step,
                           const dcc_watch *watch) {
    (void)in, (void)out;
    for (uint32_t i = 0; i < 3; i++) {
        *step = i;
        if (watch != NULL) {
            watch->observer(watch->context, i, arena);
        }
    }
    return 0;
}
static const dcc_model empty = {DCC_ABI, 1, 1, 3, "empty", &input, &output, names, COUNT * sizeof(float),
                                COUNT * sizeof(float), COUNT * sizeof(float), empty_steps, 1};

static void check_times(const dcc_step_time *times, uint64_t least, uint64_t most) {
    CHECK(times[0].runs >= least && times[0].runs <= most && times[1].runs == times[0].runs);
    for (int i = 0; i < 2; i++) {
        const dcc_step_time *t = &times[i];
        CHECK(t->min_ns <= t->max_ns);
        CHECK(t->total_ns >= t->runs * t->min_ns && t->total_ns <= t->runs * t->max_ns);
    }
    CHECK(times[2].runs == 0 && times[2].total_ns == 0 && times[2].min_ns == 0 && times[2].max_ns == 0);
}

static void timers(void) {
    dcc_step_time times[3];
    CHECK(dcc_profile(NULL, times, 3) == DCC_ERROR_ARGUMENT && dcc_profile_reset(NULL) == DCC_ERROR_ARGUMENT);
    dcc_handle *without = make(&scale, 1);
    CHECK(dcc_profile(without, times, 3) == DCC_ERROR_ARGUMENT);
    CHECK(strcmp(dcc_last_error(without), "the model was built without timers") == 0);
    CHECK(dcc_profile_reset(without) == DCC_OK && dcc_destroy(without) == DCC_OK);
    for (int32_t count = 1; count <= 3; count++) {
        dcc_handle *handle = make(&timed, count), *other = make(&timed, count);
        CHECK(dcc_profile(handle, times, 2) == DCC_ERROR_ARGUMENT);
        CHECK(strcmp(dcc_last_error(handle), "room for another number for the times of 3 steps") == 0);
        CHECK(dcc_profile(handle, NULL, 3) == DCC_ERROR_ARGUMENT);
        CHECK(strcmp(dcc_last_error(handle), "no room for the times of 3 steps") == 0);
        CHECK(dcc_profile(handle, times, 3) == DCC_OK);
        check_times(times, 0, 0);
        buffers *b = fill(1.0f);
        int allocated = allocations;
        for (int i = 0; i < 30; i++) {
            CHECK(run(handle, b) == DCC_OK && tripled(b));
        }
        CHECK(allocations == allocated);
        free(b);
        CHECK(dcc_profile(handle, times, 3) == DCC_OK);
        check_times(times, 1, 30);
        CHECK(times[0].min_ns > 0);
        CHECK(dcc_profile(other, times, 3) == DCC_OK); /* each handle has its own */
        check_times(times, 0, 0);
        /* The first run after a reset is timed; what an observer takes is nobody's time. */
        for (int i = 0; i < 5; i++) {
            int calls = 0;
            CHECK(dcc_profile_reset(handle) == DCC_OK && dcc_profile(handle, times, 3) == DCC_OK);
            check_times(times, 0, 0);
            CHECK(dcc_observe(handle, dawdle, &calls) == DCC_OK);
            run_and_check(handle, (float)i);
            CHECK(dcc_profile(handle, times, 3) == DCC_OK && calls == 2);
            check_times(times, 1, 1);
            if (times[0].max_ns < 20000000 && times[1].max_ns < 20000000) {
                break;
            }
            CHECK(i < 4);
        }
        CHECK(dcc_destroy(handle) == DCC_OK && dcc_destroy(other) == DCC_OK);
    }
}

/* Every run of a network that takes milliseconds, few of one that takes nothing. */
static void seldom_timed(void) {
    dcc_step_time times[3];
    dcc_handle *handle = make(&resting, 1);
    for (int i = 0; i < 20; i++) {
        run_and_check(handle, (float)i);
    }
    CHECK(dcc_profile(handle, times, 3) == DCC_OK);
    check_times(times, 20, 20);
    CHECK(times[0].min_ns >= 5000000);
    CHECK(dcc_destroy(handle) == DCC_OK);
    handle = make(&empty, 1);
    buffers *b = fill(1.0f);
    for (int i = 0; i < 5000; i++) {
        CHECK(run(handle, b) == DCC_OK);
    }
    free(b);
    CHECK(dcc_profile(handle, times, 3) == DCC_OK);
    CHECK(times[0].runs > 1 && times[0].runs <= 1000 && times[2].runs == times[0].runs);
    CHECK(dcc_destroy(handle) == DCC_OK);
}
