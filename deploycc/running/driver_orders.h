/* What the driver is told: orders.txt.  Part of driver.c. */

#define MOST_CPUS 256

typedef struct dump {
    unsigned step, index;
    char kind[16];
    unsigned long long offset, bytes;
} dump;

static struct {
    char library[4096];
    int threads, warmup, runs, steps, serve, device, plain, probe;
    unsigned variant;
    double seconds;
    size_t cpu_count, dump_count;
    int32_t cpus[MOST_CPUS];
    dump *dumps;
} orders = {.threads = 1};

static void read_dump(const char *values) {
    dump *grown = realloc(orders.dumps, (orders.dump_count + 1) * sizeof *grown);
    if (grown == NULL) {
        fail("memory", "too many dumps");
    }
    orders.dumps = grown;
    dump *next = &grown[orders.dump_count++];
    if (sscanf(values, "%u %15s %u %llu %llu", &next->step, next->kind, &next->index, &next->offset, &next->bytes)
        != 5) {
        fail("orders.txt", values);
    }
}

static void read_orders(void) {
    char line[8192], word[32];
    FILE *file = fopen("orders.txt", "r");
    if (file == NULL) {
        fail("orders.txt", "cannot be opened");
    }
    while (fgets(line, sizeof line, file) != NULL) {
        int used = 0;
        line[strcspn(line, "\n")] = '\0';
        if (sscanf(line, "%31s %n", word, &used) != 1) {
            continue;
        }
        const char *values = line + used;
        if (strcmp(word, "library") == 0) {
            snprintf(orders.library, sizeof orders.library, "%s", values);
        } else if (strcmp(word, "threads") == 0) {
            orders.threads = atoi(values);
        } else if (strcmp(word, "warmup") == 0) {
            orders.warmup = atoi(values);
        } else if (strcmp(word, "runs") == 0) {
            orders.runs = atoi(values);
        } else if (strcmp(word, "seconds") == 0) {
            orders.seconds = atof(values);
        } else if (strcmp(word, "steps") == 0) {
            orders.steps = 1;
        } else if (strcmp(word, "serve") == 0) {
            orders.serve = 1;
        } else if (strcmp(word, "device") == 0) {
            orders.device = 1;
        } else if (strcmp(word, "plain") == 0) {
            orders.plain = 1;
        } else if (strcmp(word, "probe") == 0) {
            orders.probe = 1;
        } else if (strcmp(word, "variant") == 0) {
            orders.variant = (unsigned)atoi(values);
        } else if (strcmp(word, "dump") == 0) {
            read_dump(values);
        } else if (strcmp(word, "cpus") == 0) {
            char *rest = (char *)(uintptr_t)values;
            while (*rest != '\0' && orders.cpu_count < MOST_CPUS) {
                orders.cpus[orders.cpu_count++] = (int32_t)strtol(rest, &rest, 10);
                rest += strspn(rest, " ");
            }
        } else {
            fail("orders.txt: unknown word", word);
        }
    }
    fclose(file);
}
