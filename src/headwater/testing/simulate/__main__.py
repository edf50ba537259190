"""`python -m headwater.testing.simulate FIRST [COUNT]`: runs seeds, and prints the findings of each."""

import sys
import time

from headwater.testing.simulate.simulation import simulate


def main(arguments: list[str]) -> int:
    if not arguments or not all(argument.isdecimal() for argument in arguments) or len(arguments) > 2:
        print(__doc__, file=sys.stderr)
        return 2
    first, count = int(arguments[0]), int(arguments[1]) if len(arguments) > 1 else 1
    bad, simulated_s, crash_states, operations, faults = 0, 0.0, 0, 0, 0
    began_s = time.process_time()
    for seed in range(first, first + count):
        result = simulate(seed)
        bad += bool(result.findings)
        simulated_s += result.simulated_ms / 1000
        crash_states += result.crash_states
        operations += result.operations
        faults += result.faults
        for finding in result.findings:
            print(f"seed {seed}: {finding}", flush=True)
    used_s = time.process_time() - began_s
    print(
        f"{count} seeds, {bad} with findings; {operations} operations, {crash_states} crash states, {faults} disk faults; "
        f"{simulated_s:.0f} simulated seconds in {used_s:.1f} s of CPU time, {simulated_s / max(used_s, 1e-9):.0f} per second"
    )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
