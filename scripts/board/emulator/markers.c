/* Markers that open and close a counted region on the emulated board.
 *
 * Both are hint instructions that no Arm core gives a meaning to: a real core runs them as nops,
 * and the emulator's plugins recognise their encodings. */

__attribute__((visibility("default"))) void leanconv_region_start(void) {
    __asm__ volatile("hint #100" ::: "memory");
}

__attribute__((visibility("default"))) void leanconv_region_stop(void) {
    __asm__ volatile("hint #101" ::: "memory");
}
