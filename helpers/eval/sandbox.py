"""Re-export the sandbox under the name that outside scripts import; it lives in `helpers.sandbox`."""

from helpers.sandbox.api import Outcome, Program, SandboxError, record_outputs, run_program, run_programs

__all__ = ["Outcome", "Program", "SandboxError", "record_outputs", "run_program", "run_programs"]
