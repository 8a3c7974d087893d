/* A64 instructions by class, and the markers of regions.
 *
 * "Arm ARM" below is the Arm Architecture Reference Manual (DDI 0487), section C4.1 "A64
 * instruction set encoding"; the names in quotes are the headings of its tables. Bit ranges are
 * [high:low]. */

#pragma once

#include <stdbool.h>
#include <stdint.h>

/* ---- classes ----------------------------------------------------------------------------------
 */

enum counter {
    V_FMA,  /* vector fused multiply-add and -subtract, plain, by element, widening, complex */
    V_FP,   /* other vector floating point */
    V_INT,  /* vector integer, dot products and integer matrix products included */
    V_MOV,  /* dup, ins, umov, movi, zip, uzp, trn, ext, tbl, rev, mov between vectors */
    V_LD,   /* loads into SIMD&FP registers of any width */
    V_ST,   /* stores from SIMD&FP registers of any width */
    S_FP,   /* scalar floating point */
    S_LD,   /* loads into general registers; atomics that return the old value */
    S_ST,   /* stores from general registers */
    BRANCH, /* all branches: conditional, calls, returns */
    OTHER,  /* integer arithmetic, system instructions, prefetches */
    INSTRUCTION_CLASSES,
    V_LD_BYTES = INSTRUCTION_CLASSES, /* bytes moved by the V_LD instructions */
    V_ST_BYTES,
    COUNTERS
};

static const char *const counter_names[COUNTERS] = {
    [V_FMA] = "v_fma",
    [V_FP] = "v_fp",
    [V_INT] = "v_int",
    [V_MOV] = "v_mov",
    [V_LD] = "v_ld",
    [V_ST] = "v_st",
    [S_FP] = "s_fp",
    [S_LD] = "s_ld",
    [S_ST] = "s_st",
    [BRANCH] = "branch",
    [OTHER] = "other",
    [V_LD_BYTES] = "v_ld_bytes",
    [V_ST_BYTES] = "v_st_bytes",
};

struct instruction {
    enum counter class;
    uint32_t vector_bytes; /* moved by V_LD and V_ST, else 0 */
};

/* ---- decoding ---------------------------------------------------------------------------------
 */

static uint32_t bits(uint32_t word, unsigned high, unsigned low) {
    return (word >> low) & ((1u << (high - low + 1)) - 1);
}

static bool matches(uint32_t word, uint32_t mask, uint32_t value) { return (word & mask) == value; }

/* "Hints": HINT #imm7 is 0xD503201F with imm7 in [11:5]. */
#define HINT(imm) (UINT32_C(0xD503201F) | (uint32_t)(imm) << 5)
#define START_MARKER HINT(100)
#define STOP_MARKER HINT(101)

/* Top level, "A64 instruction set encoding": op0 is [28:25]. */
#define GROUP_BRANCH_MASK UINT32_C(0x1C000000) /* 101x: branches, exceptions, system */
#define GROUP_BRANCH UINT32_C(0x14000000)
#define GROUP_LOAD_STORE_MASK UINT32_C(0x0A000000) /* x1x0: loads and stores */
#define GROUP_LOAD_STORE UINT32_C(0x08000000)
#define GROUP_SIMD_FP_MASK UINT32_C(0x0E000000) /* x111: scalar FP and Advanced SIMD */
#define GROUP_SIMD_FP UINT32_C(0x0E000000)

/* "Branches, Exception Generating and System instructions": [31:29] = 110 and [25] = 0 holds
 * exceptions, hints, barriers and system registers; [25] = 1 is "Unconditional branch (register)".
 */
#define NOT_A_BRANCH_MASK UINT32_C(0xE2000000)
#define NOT_A_BRANCH UINT32_C(0xC0000000)

static enum counter decode_branch(uint32_t word) {
    return matches(word, NOT_A_BRANCH_MASK, NOT_A_BRANCH) ? OTHER : BRANCH;
}

/* "Loads and Stores". The V bit tells SIMD&FP registers from general ones. */
#define LOAD_STORE_V UINT32_C(0x04000000)

/* "Advanced SIMD load/store multiple structures" and "single structure", with their post-indexed
 * forms: [29:24] = 001100 and 001101. */
#define SIMD_STRUCTURES_MASK UINT32_C(0x3F000000)
#define SIMD_MULTIPLE_STRUCTURES UINT32_C(0x0C000000)
#define SIMD_SINGLE_STRUCTURE UINT32_C(0x0D000000)

/* "Load register (literal)": [29:27] = 011, [25:24] = 00. */
#define LOAD_LITERAL_MASK UINT32_C(0x3B000000)
#define LOAD_LITERAL UINT32_C(0x18000000)

/* "LDAPR/STLR (unscaled immediate)": [29:24] = 011001, [21] = 0, [11:10] = 00. */
#define RCPC_UNSCALED_MASK UINT32_C(0x3F200C00)
#define RCPC_UNSCALED UINT32_C(0x19000000)

/* "Load/store register pair" (all addressing modes): [29:27] = 101. */
#define LOAD_STORE_PAIR_MASK UINT32_C(0x38000000)
#define LOAD_STORE_PAIR UINT32_C(0x28000000)

/* "Load/store exclusive", "ordered", "Compare and swap": [29:24] = 001000. */
#define LOAD_STORE_EXCLUSIVE_MASK UINT32_C(0x3F000000)
#define LOAD_STORE_EXCLUSIVE UINT32_C(0x08000000)
#define COMPARE_AND_SWAP_MASK UINT32_C(0x00A00000) /* o2 = o1 = 1 */
#define COMPARE_AND_SWAP_PAIR_MASK UINT32_C(0x80A00000)
#define COMPARE_AND_SWAP_PAIR UINT32_C(0x00200000) /* o2 = 0, o1 = 1, [31] = 0 */

/* "Atomic memory operations" and "Load register (PAC)": [29:24] = 111000, [21] = 1, [11:10] other
 * than 10, which is "Load/store register (register offset)". */
#define REGISTER_OFFSET_FORMS_MASK UINT32_C(0x3B200000)
#define REGISTER_OFFSET_FORMS UINT32_C(0x38200000)

static uint32_t simd_structure_bytes(uint32_t word) {
    const uint32_t q = bits(word, 30, 30);
    if (matches(word, SIMD_STRUCTURES_MASK, SIMD_MULTIPLE_STRUCTURES)) {
        /* opcode [15:12]: LD4, LD1 x 4, LD3, LD1 x 3, LD1 x 1, LD2, LD1 x 2; 0 is unallocated. */
        static const uint8_t registers[16] = {4, 0, 4, 0, 3, 0, 3, 1, 2, 0, 2};
        return registers[bits(word, 15, 12)] * (q ? 16u : 8u);
    }
    const uint32_t opcode = bits(word, 15, 13), size = bits(word, 11, 10);
    const uint32_t elements = ((opcode & 1) << 1 | bits(word, 21, 21)) + 1;
    uint32_t log2_bytes = opcode >> 1; /* 0: bytes, 1: halves, 2: words or doubles */
    if (log2_bytes == 2)
        log2_bytes += size & 1;
    else if (log2_bytes == 3) /* replicating loads give the size apart */
        log2_bytes = size;
    return elements << log2_bytes;
}

static struct instruction decode_vector_load_store(uint32_t word) {
    const bool l_bit = bits(word, 22, 22);
    const uint32_t opc = bits(word, 31, 30);
    if (matches(word, SIMD_STRUCTURES_MASK, SIMD_MULTIPLE_STRUCTURES) ||
        matches(word, SIMD_STRUCTURES_MASK, SIMD_SINGLE_STRUCTURE))
        return (struct instruction){l_bit ? V_LD : V_ST, simd_structure_bytes(word)};
    if (matches(word, LOAD_LITERAL_MASK, LOAD_LITERAL)) /* S, D, Q */
        return (struct instruction){V_LD, 4u << opc};
    if (matches(word, LOAD_STORE_PAIR_MASK, LOAD_STORE_PAIR)) /* two of S, D, Q */
        return (struct instruction){l_bit ? V_LD : V_ST, 2u * (4u << opc)};
    /* One register, B to Q: opc<1>:size is the logarithm of its bytes, opc<0> the direction. */
    return (struct instruction){l_bit ? V_LD : V_ST, 1u << (bits(word, 23, 23) << 2 | opc)};
}

static enum counter decode_scalar_load_store(uint32_t word) {
    const uint32_t size = bits(word, 31, 30), opc = bits(word, 23, 22);
    if (matches(word, LOAD_LITERAL_MASK, LOAD_LITERAL))
        return size == 3 ? OTHER /* PRFM */ : S_LD;
    if (matches(word, LOAD_STORE_PAIR_MASK, LOAD_STORE_PAIR))
        return opc & 1 ? S_LD : S_ST;
    if (matches(word, LOAD_STORE_EXCLUSIVE_MASK, LOAD_STORE_EXCLUSIVE)) {
        if (matches(word, COMPARE_AND_SWAP_MASK, COMPARE_AND_SWAP_MASK) ||
            matches(word, COMPARE_AND_SWAP_PAIR_MASK, COMPARE_AND_SWAP_PAIR))
            return S_LD;
        return opc & 1 ? S_LD : S_ST;
    }
    if (matches(word, RCPC_UNSCALED_MASK, RCPC_UNSCALED))
        return opc ? S_LD : S_ST;
    if (matches(word, REGISTER_OFFSET_FORMS_MASK, REGISTER_OFFSET_FORMS) && bits(word, 11, 10) != 2)
        return S_LD;
    if (size == 3 && opc == 2)
        return OTHER; /* PRFM, PRFUM */
    return opc ? S_LD : S_ST;
}

/* "Data Processing -- Scalar Floating-Point and Advanced SIMD".
 * Scalar FP has [30] = 0 and [28] = 1; Advanced SIMD vector [31] = 0 and [28] = 0; Advanced SIMD
 * scalar [31:30] = 01 and [28] = 1, with the fields of the vector form; the rest ([31] = 1) is
 * cryptography. */
#define SCALAR_FP_MASK UINT32_C(0x50000000)
#define SCALAR_FP UINT32_C(0x10000000)
#define SIMD_SCALAR UINT32_C(0x50000000)
#define CRYPTO_BIT UINT32_C(0x80000000)

/* [24] = 1 with [10] = 0: "vector x indexed element"; [24] = 1, [23] = 0, [10] = 1: "shift by
 * immediate" and, with immh [22:19] = 0, "modified immediate". */
#define BY_ELEMENT_MASK UINT32_C(0x01000400)
#define BY_ELEMENT UINT32_C(0x01000000)
#define IMMEDIATE_MASK UINT32_C(0x01800400)
#define IMMEDIATE UINT32_C(0x01000400)

/* [24] = 0, [21] = 1: "three same" has [10] = 1, "three different" [11:10] = 00, and [11:10] = 10
 * is told apart by [21:17]. */
#define THREE_SAME_MASK UINT32_C(0x01200400)
#define THREE_SAME UINT32_C(0x00200400)
#define THREE_DIFFERENT_MASK UINT32_C(0x01200C00)
#define THREE_DIFFERENT UINT32_C(0x00200000)
#define TWO_REGISTER_MASK UINT32_C(0x013E0C00)
#define TWO_REGISTER_MISC UINT32_C(0x00200800)
#define TWO_REGISTER_MISC_FP16 UINT32_C(0x00380800)
#define ACROSS_LANES UINT32_C(0x00300800) /* the scalar form is "scalar pairwise" */

/* [24] = 0, [21] = 0: "three same (FP16)" has [22] = 1, [15:14] = 00, [10] = 1; "three-register
 * extension" [15] = 1, [10] = 1; the others move data: copy, table lookup, permute, extract (their
 * scalar form with [10] = 0 is SHA). */
#define THREE_SAME_FP16_MASK UINT32_C(0x0160C400)
#define THREE_SAME_FP16 UINT32_C(0x00400400)
#define THREE_EXTENSION_MASK UINT32_C(0x01208400)
#define THREE_EXTENSION UINT32_C(0x00008400)
#define MOVES_MASK UINT32_C(0x01208000)
#define MOVES UINT32_C(0x00000000)

static enum counter decode_by_element(uint32_t word) {
    const uint32_t opcode = bits(word, 15, 12), size = bits(word, 23, 22);
    if (bits(word, 29, 29)) {  /* U */
        if ((opcode & 9) == 1) /* FCMLA */
            return V_FMA;
        if (opcode == 8 || opcode == 0xC) /* FMLAL2, FMLSL2 */
            return V_FMA;
        return opcode == 9 ? V_FP : V_INT; /* FMULX */
    }
    switch (opcode) {
    case 0x1: /* FMLA */
    case 0x5: /* FMLS */
    case 0x0: /* FMLAL */
    case 0x4: /* FMLSL */
        return V_FMA;
    case 0x9: /* FMUL */
        return V_FP;
    case 0xF: /* BFDOT and BFMLAL have size<0> = 1; SUDOT and USDOT have 0 */
        return size & 1 ? V_FMA : V_INT;
    default:
        return V_INT;
    }
}

static enum counter decode_immediate(uint32_t word) {
    if (bits(word, 22, 19) == 0) { /* modified immediate */
        const uint32_t cmode = bits(word, 15, 12);
        return (cmode & 1) && cmode < 0xC ? V_INT /* ORR, BIC */ : V_MOV /* MOVI, MVNI, FMOV */;
    }
    const uint32_t opcode = bits(word, 15, 11);
    return opcode == 0x1C || opcode == 0x1F ? V_FP /* fixed-point conversions */ : V_INT;
}

static enum counter decode_three_same(uint32_t word) {
    const uint32_t opcode = bits(word, 15, 11);
    const bool u = bits(word, 29, 29);
    if (opcode == 0x19 || (opcode == 0x1D && !u)) /* FMLA, FMLS, FMLAL, FMLSL and second halves */
        return V_FMA;
    if (opcode >= 0x18)
        return V_FP;
    /* ORR of a register with itself is MOV. */
    if (opcode == 3 && !u && bits(word, 23, 22) == 2 && bits(word, 20, 16) == bits(word, 9, 5))
        return V_MOV;
    return V_INT;
}

static enum counter decode_two_register_misc(uint32_t word) {
    const uint32_t opcode = bits(word, 16, 12);
    if (opcode <= 1)
        return V_MOV; /* REV16, REV32, REV64 */
    /* FP compares with zero, FABS and FNEG; then conversions, rounding, estimates, square root. */
    return (opcode >= 0xC && opcode <= 0xF) || opcode >= 0x16 ? V_FP : V_INT;
}

static enum counter decode_across_lanes(uint32_t word) {
    const uint32_t opcode = bits(word, 16, 12);
    return opcode == 0xC || opcode == 0xD || opcode == 0xF ? V_FP : V_INT; /* FMAXNM, FADD, FMAX */
}

static enum counter decode_three_extension(uint32_t word) {
    const uint32_t opcode = bits(word, 14, 11);
    if ((opcode & 0xC) == 8 || (opcode & 0xD) == 0xD) /* FCMLA; BFDOT, BFMMLA, BFMLAL */
        return V_FMA;
    return opcode >= 0xC ? V_FP /* FCADD */ : V_INT; /* SDOT, UDOT, USDOT, SMMLA, SQRDMLAH */
}

static enum counter decode_advanced_simd(uint32_t word) {
    if (matches(word, BY_ELEMENT_MASK, BY_ELEMENT))
        return decode_by_element(word);
    if (matches(word, IMMEDIATE_MASK, IMMEDIATE))
        return decode_immediate(word);
    if (matches(word, THREE_SAME_MASK, THREE_SAME))
        return decode_three_same(word);
    if (matches(word, THREE_DIFFERENT_MASK, THREE_DIFFERENT))
        return V_INT;
    if (matches(word, TWO_REGISTER_MASK, TWO_REGISTER_MISC))
        return decode_two_register_misc(word);
    if (matches(word, TWO_REGISTER_MASK, TWO_REGISTER_MISC_FP16))
        return V_FP;
    if (matches(word, TWO_REGISTER_MASK, ACROSS_LANES))
        return decode_across_lanes(word);
    if (matches(word, THREE_SAME_FP16_MASK, THREE_SAME_FP16)) /* U:opcode 0:001 is FMLA, FMLS */
        return bits(word, 13, 11) == 1 && !bits(word, 29, 29) ? V_FMA : V_FP;
    if (matches(word, THREE_EXTENSION_MASK, THREE_EXTENSION))
        return decode_three_extension(word);
    if (matches(word, MOVES_MASK, MOVES))
        return V_MOV;
    return V_INT; /* AES, SHA2 */
}

static enum counter decode_simd_fp(uint32_t word) {
    if (matches(word, SCALAR_FP_MASK, SCALAR_FP))
        return S_FP;
    if (word & CRYPTO_BIT)
        return V_INT;
    if (!matches(word, SCALAR_FP_MASK, SIMD_SCALAR))
        return decode_advanced_simd(word);
    if (matches(word, MOVES_MASK | 0x400u, MOVES))
        return V_INT; /* SHA1, SHA256 */
    const enum counter class = decode_advanced_simd(word);
    return class == V_FMA || class == V_FP ? S_FP : class;
}

static struct instruction decode(uint32_t word) {
    if (matches(word, GROUP_BRANCH_MASK, GROUP_BRANCH))
        return (struct instruction){decode_branch(word), 0};
    if (matches(word, GROUP_LOAD_STORE_MASK, GROUP_LOAD_STORE)) {
        if (word & LOAD_STORE_V)
            return decode_vector_load_store(word);
        return (struct instruction){decode_scalar_load_store(word), 0};
    }
    if (matches(word, GROUP_SIMD_FP_MASK, GROUP_SIMD_FP))
        return (struct instruction){decode_simd_fp(word), 0};
    return (struct instruction){OTHER, 0};
}

/* ---- counting ---------------------------------------------------------------------------------
 */

struct counts {
    uint32_t of[COUNTERS];
};

static void add(struct counts *counts, struct instruction instruction) {
    counts->of[instruction.class]++;
    if (instruction.class == V_LD)
        counts->of[V_LD_BYTES] += instruction.vector_bytes;
    if (instruction.class == V_ST)
        counts->of[V_ST_BYTES] += instruction.vector_bytes;
}
