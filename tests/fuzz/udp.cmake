# Control messages, and applications that lie to the UDP server. Included by CMakeLists.txt of this
# folder.

eft_fuzz(fuzz_control eft_syscall)
eft_fuzz(fuzz_app eft_harness eft_udp)
