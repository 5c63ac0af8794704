/* The exercise of workspaces alone, without a run; part of exercise.c, whose CHECK it uses. */
#ifndef EXERCISE_WORKSPACE_H
#define EXERCISE_WORKSPACE_H

static void workspace(void) {
    static _Alignas(DCC_ALIGNMENT) unsigned char block[1024 + DCC_WORKSPACE_NOTES(1024)];
    dcc_workspace space;
    dcc_workspace_init(&space, block, 1024);
    unsigned char *a = dcc_workspace_take(&space, 1), *b = dcc_workspace_take(&space, 65);
    CHECK(a == block && b == block + 64);
    CHECK(dcc_workspace_take(&space, 1024 - 192 + 1) == NULL);
    unsigned char *c = dcc_workspace_take(&space, 1024 - 192);
    CHECK(c == block + 192);
    CHECK(dcc_workspace_take(&space, 1) == NULL);
    CHECK(dcc_workspace_take(&space, UINT64_MAX) == NULL);
    CHECK(dcc_workspace_give(&space, b) == 0); /* out of order */
    CHECK(dcc_workspace_give(&space, b) == -1);
    CHECK(dcc_workspace_give(&space, block + 1) == -1);
    CHECK(dcc_workspace_take(&space, 1) == NULL);
    CHECK(dcc_workspace_give(&space, c) == 0); /* takes b's room back as well */
    CHECK(dcc_workspace_take(&space, 0) == block + 64);
    CHECK(dcc_workspace_take(&space, 0) == block + 128); /* empty blocks are distinct */
    dcc_workspace_init(&space, block, 0);
    CHECK(dcc_workspace_take(&space, 1) == NULL && dcc_workspace_take(&space, 0) == NULL);
    /* outside a run there is none */
    CHECK(dcc_alloc_workspace(1, 0, 1, 0, 8) == NULL && dcc_free_workspace(1, 0, block) == -1);
    /* as many blocks as there is room for, each freed from the first one on */
    enum { MANY = 1000 };
    static _Alignas(DCC_ALIGNMENT) unsigned char wide[MANY * DCC_ALIGNMENT + DCC_WORKSPACE_NOTES(MANY * DCC_ALIGNMENT)];
    dcc_workspace_init(&space, wide, MANY * DCC_ALIGNMENT);
    for (int i = 0; i < MANY; i++) {
        CHECK(dcc_workspace_take(&space, 1) == wide + i * DCC_ALIGNMENT);
    }
    CHECK(dcc_workspace_take(&space, 1) == NULL);
    for (int i = 0; i < MANY; i++) {
        CHECK(space.live != 0 && dcc_workspace_give(&space, wide + i * DCC_ALIGNMENT) == 0);
    }
    CHECK(space.live == 0 && space.top == 0);
}

#endif
