/* Graphs: work with an order, launched as one. */
#include "emulated.h"

#include <stdlib.h>
#include <string.h>

struct CUgraphNode_st {
    cu_node next; /* in the order they were made */
    work what;
    size_t count;
    cu_node *after;
    int done;          /* while an order is looked for */
    cu_node instance;  /* of the executable graph that is being made, or that node's own original */
};

struct CUgraph_st {
    cu_node first, last;
};

/* Has nodes of its own: changes of their parameters leave the graph as it is. */
struct CUgraphExec_st {
    cu_node first;
};

static void free_nodes(cu_node node) {
    while (node != NULL) {
        cu_node next = node->next;
        free(node->what.parameters);
        free(node->after);
        free(node);
        node = next;
    }
}

static cu_result add(cu_node *made, cu_graph graph, const cu_node *after, size_t count, cu_node *place) {
    cu_node node = calloc(1, sizeof *node);
    cu_node *copy = calloc(count + 1, sizeof *copy);
    if (node == NULL || copy == NULL) {
        free(node);
        free(copy);
        return CU_OUT_OF_MEMORY;
    }
    if (count > 0) {
        memcpy(copy, after, count * sizeof *copy);
    }
    node->after = copy;
    node->count = count;
    if (graph->last == NULL) {
        graph->first = node;
    } else {
        graph->last->next = node;
    }
    graph->last = node;
    *made = node;
    *place = node;
    return CU_OK;
}

/* Of nodes that may all be next the newest one is: a dependency that is missing is seen. */
static cu_node next_ready(cu_node first) {
    cu_node found = NULL;
    for (cu_node node = first; node != NULL; node = node->next) {
        int ready = !node->done;
        for (size_t i = 0; i < node->count && ready; i++) {
            ready = node->after[i]->done;
        }
        found = ready ? node : found;
    }
    return found;
}

EXPORT cu_result cuGraphCreate(cu_graph *graph, uint32_t flags) {
    ENTER("cuGraphCreate", " %u", (unsigned)flags);
    *graph = calloc(1, sizeof **graph);
    emulated_live[LIVE_GRAPHS] += *graph != NULL;
    return emulated_leave(*graph == NULL ? CU_OUT_OF_MEMORY : CU_OK);
}

EXPORT cu_result cuGraphDestroy(cu_graph graph) {
    ENTER("cuGraphDestroy", "%s", "");
    free_nodes(graph->first);
    free(graph);
    emulated_live[LIVE_GRAPHS]--;
    return emulated_leave(CU_OK);
}

EXPORT cu_result cuGraphAddKernelNode(cu_node *node, cu_graph graph, const cu_node *after, size_t count,
                                      const cu_kernel_node *kernel) {
    ENTER("cuGraphAddKernelNode", " %s", kernel->function->name);
    cu_node made;
    cu_result result = add(node, graph, after, count, &made);
    if (result == CU_OK) {
        result = work_kernel(&made->what, kernel->function, kernel->grid, kernel->block, kernel->shared_bytes,
                             kernel->parameters);
    }
    return emulated_leave(result);
}

static cu_result set_copy(work *one, const cu_copy_node *copy) {
    const int from_host = copy->source.memory == CU_MEMORY_HOST, to_host = copy->destination.memory == CU_MEMORY_HOST;
    if ((!from_host && !emulated_is_device(copy->source.device, copy->width))
        || (!to_host && !emulated_is_device(copy->destination.device, copy->width)) || copy->height != 1
        || copy->depth != 1) {
        return CU_INVALID_VALUE;
    }
    one->kind = WORK_COPY;
    one->source = from_host ? copy->source.host : (const void *)(uintptr_t)copy->source.device;
    one->destination = to_host ? (void *)(uintptr_t)copy->destination.host : (void *)(uintptr_t)copy->destination.device;
    one->bytes = copy->width;
    return CU_OK;
}

EXPORT cu_result cuGraphAddMemcpyNode(cu_node *node, cu_graph graph, const cu_node *after, size_t count,
                                      const cu_copy_node *copy, cu_context context) {
    ENTER("cuGraphAddMemcpyNode", " %zu", copy->width);
    cu_node made;
    cu_result result = context == NULL ? CU_INVALID_CONTEXT : add(node, graph, after, count, &made);
    result = result == CU_OK ? set_copy(&made->what, copy) : result;
    return emulated_leave(result);
}

EXPORT cu_result cuGraphAddHostNode(cu_node *node, cu_graph graph, const cu_node *after, size_t count,
                                    const cu_host_node *host) {
    ENTER("cuGraphAddHostNode", "%s", "");
    cu_node made;
    const cu_result result = add(node, graph, after, count, &made);
    if (result == CU_OK) {
        made->what.kind = WORK_HOST;
        made->what.host = host->function;
        made->what.data = host->data;
    }
    return emulated_leave(result);
}

EXPORT cu_result cuGraphAddEventRecordNode(cu_node *node, cu_graph graph, const cu_node *after, size_t count,
                                           cu_event event) {
    ENTER("cuGraphAddEventRecordNode", "%s", "");
    cu_node made;
    const cu_result result = add(node, graph, after, count, &made);
    if (result == CU_OK) {
        made->what.kind = WORK_RECORD;
        made->what.event = event;
    }
    return emulated_leave(result);
}

EXPORT cu_result cuGraphInstantiateWithFlags(cu_graph_exec *exec, cu_graph graph, unsigned long long flags) {
    ENTER("cuGraphInstantiateWithFlags", " %llu", flags);
    cu_graph_exec made = calloc(1, sizeof *made);
    cu_node *link = made == NULL ? NULL : &made->first;
    for (cu_node node = graph->first; node != NULL && made != NULL; node = node->next) {
        cu_node copy = calloc(1, sizeof *copy);
        work *what = work_copy(&node->what);
        cu_node *after = calloc(node->count + 1, sizeof *after);
        if (copy == NULL || what == NULL || after == NULL) {
            abort();
        }
        copy->what = *what;
        free(what);
        copy->count = node->count;
        copy->after = after;
        copy->instance = node;
        node->instance = copy;
        for (size_t i = 0; i < node->count; i++) {
            after[i] = node->after[i]->instance; /* made before */
        }
        *link = copy;
        link = &copy->next;
    }
    *exec = made;
    emulated_live[LIVE_EXECS] += made != NULL;
    return emulated_leave(made == NULL ? CU_OUT_OF_MEMORY : CU_OK);
}

EXPORT cu_result cuGraphExecDestroy(cu_graph_exec exec) {
    ENTER("cuGraphExecDestroy", "%s", "");
    free_nodes(exec->first);
    free(exec);
    emulated_live[LIVE_EXECS]--;
    return emulated_leave(CU_OK);
}

static cu_node instance_of(cu_graph_exec exec, cu_node node, int kind) {
    cu_node found = exec->first;
    while (found != NULL && found->instance != node) {
        found = found->next;
    }
    return found != NULL && found->what.kind == kind ? found : NULL;
}

EXPORT cu_result cuGraphExecKernelNodeSetParams(cu_graph_exec exec, cu_node node, const cu_kernel_node *kernel) {
    ENTER("cuGraphExecKernelNodeSetParams", " %s", kernel->function->name);
    cu_node found = instance_of(exec, node, WORK_KERNEL);
    return emulated_leave(found == NULL ? CU_INVALID_VALUE
                                        : work_kernel(&found->what, kernel->function, kernel->grid, kernel->block,
                                                      kernel->shared_bytes, kernel->parameters));
}

EXPORT cu_result cuGraphExecMemcpyNodeSetParams(cu_graph_exec exec, cu_node node, const cu_copy_node *copy,
                                                cu_context context) {
    ENTER("cuGraphExecMemcpyNodeSetParams", " %zu", copy->width);
    cu_node found = instance_of(exec, node, WORK_COPY);
    return emulated_leave(found == NULL || context == NULL ? CU_INVALID_VALUE : set_copy(&found->what, copy));
}

EXPORT cu_result cuGraphUpload(cu_graph_exec exec, cu_stream stream) {
    (void)exec, (void)stream;
    ENTER("cuGraphUpload", "%s", "");
    return emulated_leave(CU_OK);
}

EXPORT cu_result cuGraphLaunch(cu_graph_exec exec, cu_stream stream) {
    ENTER("cuGraphLaunch", "%s", "");
    for (cu_node node = exec->first; node != NULL; node = node->next) {
        node->done = 0;
    }
    /* Nodes keep the parameters that they have now. */
    for (cu_node node = next_ready(exec->first); node != NULL; node = next_ready(exec->first)) {
        work *one = work_copy(&node->what);
        if (one == NULL) {
            return emulated_leave(CU_OUT_OF_MEMORY);
        }
        work_enqueue(stream, one);
        node->done = 1;
    }
    return emulated_leave(CU_OK);
}
