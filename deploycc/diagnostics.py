"""The catalogue of diagnostic codes, and how a diagnostic is shown.

Codes are never reused: DC1xx model form, 2xx shape, 3xx dtype and quantisation,
4xx operators, 5xx target and its limits, 6xx tuning, 7xx packaging and the machine, 8xx packages at work.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from deploycc.types import Diagnostic


@dataclass(frozen=True)
class Code:
    """A catalogue entry: a short title and the exit code the CLI leaves with."""

    title: str
    exit_code: int


CATALOGUE: dict[str, Code] = {
    # DC100-DC199: the model file and its form
    "DC100": Code("model file does not exist", 2),
    "DC101": Code("model is a folder", 2),
    "DC102": Code("model file is empty", 2),
    "DC103": Code("not an ONNX model", 2),
    "DC104": Code("model file truncated or damaged", 2),
    "DC105": Code("model too large", 2),
    "DC106": Code("model file cannot be read", 2),
    "DC110": Code("model fails the ONNX checker", 2),
    "DC111": Code("model has no nodes", 2),
    "DC112": Code("tensor defined twice", 2),
    "DC113": Code("graph has a cycle", 2),
    "DC114": Code("tensor never produced", 2),
    "DC115": Code("opset out of range", 2),
    "DC116": Code("model names no opset", 2),
    "DC117": Code("model has no outputs", 2),
    "DC118": Code("training graphs left out", 0),
    "DC120": Code("external data outside the model's folder", 2),
    "DC121": Code("external data missing or short", 2),
    "DC130": Code("input or output is no dense tensor", 1),
    "DC131": Code("strings in the network", 1),
    "DC140": Code("unknown operator domain", 1),
    "DC141": Code("unknown operator", 1),
    "DC142": Code("operator not in the model's opset", 2),
    "DC143": Code("model functions cannot be inlined", 1),
    "DC144": Code("operand left out", 1),
    "DC149": Code("random numbers without a seed", 0),
    "DC150": Code("opset not lifted", 0),
    "DC151": Code("onnxsim failed", 0),
    "DC152": Code("simplified form thrown away", 0),
    "DC153": Code("folding would blow the model up", 0),
    "DC154": Code("simplified form not compared", 0),
    "DC160": Code("reference cannot run the model", 1),
    "DC161": Code("model has too many nodes", 2),
    "DC162": Code("subgraphs nested too deeply", 2),
    "DC163": Code("function that calls itself", 2),
    "DC164": Code("tensor too large for any machine", 2),
    "DC165": Code("name too long", 2),
    "DC166": Code("stored data of another size than its shape", 2),
    "DC167": Code("name with a zero byte", 2),
    "DC168": Code("attribute with too many values", 2),
    "DC169": Code("reference to a function's parameter in no function", 2),
    "DC170": Code("operator left in training mode", 1),
    "DC171": Code("batch normalisation not folded", 0),
    "DC172": Code("nodes that nothing reads", 0),
    "DC173": Code("weights stored more than once", 0),
    "DC174": Code("weights that no node reads", 0),
    "DC175": Code("transposes that undo each other", 0),
    "DC176": Code("nodes that change nothing", 0),
    "DC177": Code("two casts in a row", 0),
    "DC178": Code("opset newer than the converter's list", 0),
    "DC179": Code("opset outside the converter's range", 0),
    # DC200-DC249: shapes
    "DC200": Code("unbound dynamic dimension", 2),
    "DC201": Code("--shape names no input", 2),
    "DC202": Code("--shape has another rank", 2),
    "DC203": Code("--shape contradicts a fixed dimension", 2),
    "DC204": Code("extent out of range", 2),
    "DC205": Code("one dimension given two extents", 2),
    "DC206": Code("shapes do not fit through the network", 2),
    "DC207": Code("shape not known before the network runs", 1),
    "DC208": Code("tensor without elements", 1),
    "DC210": Code("open dimension for a target that takes none", 1),
    "DC211": Code("batch larger than the target takes", 1),
    "DC212": Code("more dimensions than the target takes", 1),
    "DC213": Code("fully connected layer of too many dimensions", 1),
    "DC214": Code("input that is no image", 0),
    "DC215": Code("how many inputs and outputs", 0),
    "DC216": Code("tensor longer than the target takes", 1),
    "DC217": Code("tensor wider than an image of the GPU", 0),
    "DC218": Code("fully connected layer wider than the target takes", 0),
    "DC219": Code("size that depends on the data", 1),
    "DC220": Code("input with more channels than the unit reads", 0),
    "DC221": Code("more elements than the target can count", 1),
    "DC230": Code("--max names nothing that is counted", 2),
    "DC231": Code("operator that mixes rows whose number depends on data", 1),
    "DC232": Code("two numbers of rows meet", 1),
    "DC233": Code("a number of rows goes into the computation", 1),
    "DC234": Code("no room for the most rows", 1),
    "DC240": Code("more variants than a package takes", 2),
    "DC241": Code("one dimension given two ranges", 2),
    "DC242": Code("ranges of shapes where one shape is needed", 2),
    "DC243": Code("ranges of shapes that are none", 2),
    "DC244": Code("package has no such variant", 2),
    # DC300-DC349: element types
    "DC300": Code("element type without a C type", 1),
    "DC301": Code("element type without kernels", 1),
    "DC310": Code("quantised in another form", 0),
    "DC311": Code("scale for each channel where one is taken", 0),
    "DC312": Code("float network for a unit of integers", 0),
    "DC313": Code("element type that the target does not compute in", 1),
    "DC314": Code("constant out of the range of float16", 0),
    "DC315": Code("result that may leave the range of float16", 0),
    "DC316": Code("computed in float64", 0),
    "DC317": Code("computed in int64", 0),
    "DC318": Code("built in another type than the model's", 0),
    "DC319": Code("quantised network for a unit of floats", 0),
    # DC400-DC449: operators
    "DC400": Code("operator has no converter", 1),
    "DC401": Code("operator would be silently wrong", 1),
    "DC402": Code("operator form not handled", 1),
    "DC403": Code("operator form has no kernel", 1),
    "DC404": Code("operator leaves a shape open", 1),
    "DC405": Code("operator of a foreign domain", 1),
    "DC406": Code("operator read with another opset's meaning", 1),
    "DC407": Code("branch decided at run time", 1),
    "DC410": Code("operator form runs elsewhere", 1),
    "DC411": Code("operator form is slow", 1),
    "DC412": Code("operator form may lose accuracy", 1),
    "DC413": Code("operator form worth a look", 1),
    "DC414": Code("support of an operator not known", 1),
    "DC415": Code("operator version not in the converter's list", 1),
    "DC416": Code("operator does not run on this unit", 1),
    "DC417": Code("element type that the operator does not take there", 1),
    "DC420": Code("activation that does not fuse", 0),
    "DC421": Code("forms of upsampling that the target takes", 0),
    "DC422": Code("convolution of few channels", 0),
    "DC423": Code("pixels moved into channels by strided slices", 0),
    "DC424": Code("expensive fully connected layer", 0),
    "DC425": Code("two networks in one model", 0),
    "DC426": Code("indexed access in the middle of the network", 0),
    "DC427": Code("softmax over another axis than the last", 0),
    "DC428": Code("input in another order at run time", 0),
    "DC429": Code("images change their order between layers", 0),
    # DC450-DC499: lowering and schedules
    "DC450": Code("model not taken by TVM's importer", 1),
    "DC452": Code("lowered to another shape than declared", 1),
    "DC460": Code("schedule that cannot be used", 2),
    "DC461": Code("control flow that only a run decides", 1),
    "DC462": Code("loops too long or bodies nested too deep", 1),
    "DC463": Code("branch that does not fit left out", 0),
    "DC464": Code("sequence or optional that only a run makes up", 1),
    # DC500-DC519: targets
    "DC500": Code("unknown target", 2),
    "DC501": Code("target file cannot be read", 2),
    "DC502": Code("target file is not TOML", 2),
    "DC503": Code("unknown key in a target file", 2),
    "DC504": Code("wrong type in a target file", 2),
    "DC505": Code("bad value in a target file", 2),
    "DC506": Code("missing key in a target file", 2),
    "DC507": Code("a target extends what it cannot", 2),
    "DC508": Code("host cannot be detected", 2),
    "DC509": Code("CPU or feature that LLVM does not know", 2),
    "DC510": Code("target without that unit or version", 2),
    "DC511": Code("option without a meaning for another compiler's target", 2),
    "DC512": Code("target that deploycc does not compile for", 2),
    "DC513": Code("unknown GPU chip", 2),
    "DC514": Code("GPU chips of one architecture", 2),
    "DC515": Code("target that cannot have a GPU", 2),
    "DC516": Code("precision without a meaning", 2),
    "DC517": Code("precision that a chip has not", 2),
    "DC518": Code("node that a GPU package runs on the processor", 0),
    # DC520-DC549: planning
    "DC520": Code("operator without a kernel of its own", 1),
    "DC521": Code("shape known at run time only", 1),
    "DC522": Code("control flow left in the graph", 1),
    "DC470": Code("file of custom operators cannot be used", 2),
    "DC471": Code("custom operator defined twice", 2),
    "DC472": Code("converter of a custom operator failed", 1),
    "DC523": Code("two C files of operators have one name", 1),
    "DC524": Code("no compiler for CUDA kernels", 2),
    "DC525": Code("weights too large for the precision", 1),
    "DC526": Code("a precision that costs an output much", 0),
    "DC530": Code("much time for little arithmetic", 0),
    "DC531": Code("weights too large for the target's memory", 1),
    "DC532": Code("activations too large for the target's memory", 1),
    "DC533": Code("memory decides the time", 0),
    "DC534": Code("much arithmetic in one layer", 0),
    # DC600-DC619: tuning
    "DC600": Code("target that cannot be measured here", 2),
    "DC601": Code("tuning database cannot be read or written", 2),
    "DC602": Code("not a tuning database", 2),
    "DC603": Code("bad tuning budget", 2),
    "DC604": Code("nothing to tune", 0),
    "DC605": Code("damaged lines in a tuning database", 0),
    "DC606": Code("tuned network not faster", 0),
    "DC607": Code("tuning records of other versions", 0),
    # DC620-DC629: looking at kernels
    "DC620": Code("no such kernel", 2),
    "DC621": Code("package without its kernels as text", 2),
    "DC622": Code("dump of another build", 2),
    # DC623-DC625: tuning on a GPU
    "DC623": Code("no GPU to tune on", 2),
    "DC624": Code("tuning for another GPU than the one here", 2),
    "DC625": Code("tuned for one of several GPU chips", 0),
    # DC700-DC749: packaging
    "DC700": Code("not a package folder", 2),
    "DC701": Code("broken manifest", 2),
    "DC702": Code("package of a newer deploycc", 2),
    "DC703": Code("package file missing or changed", 2),
    "DC704": Code("name that a library cannot have", 2),
    "DC705": Code("element type that C cannot hold", 1),
    "DC706": Code("weights too large for one library", 1),
    "DC707": Code("kernels that need TVM's runtime", 1),
    "DC708": Code("shared runtime for a target that is not linked", 2),
    "DC710": Code("compiler not found", 2),
    "DC711": Code("compiler or linker failed", 1),
    "DC712": Code("compiler hung", 1),
    "DC720": Code("library for another machine", 1),
    "DC721": Code("library needs others than it may", 1),
    "DC722": Code("library needs a newer C library", 1),
    "DC723": Code("library with unresolved symbols", 1),
    "DC724": Code("library exports the wrong symbols", 1),
    "DC725": Code("library with relocations in its code", 1),
    "DC726": Code("library asks for an executable stack", 1),
    "DC727": Code("broken ELF file", 1),
    "DC730": Code("no space left for the package", 2),
    "DC731": Code("package cannot be written", 2),
    "DC732": Code("form that a package for GPUs cannot have", 2),
    "DC733": Code("GPU code for another chip, or broken", 1),
    "DC734": Code("GPU code without a kernel that is launched", 1),
    "DC735": Code("launch beyond a chip's limits", 1),
    "DC736": Code("library that needs a GPU's driver to load", 1),
    # DC750-DC799: usage, limits and the machine
    "DC753": Code("output folder holds something else", 2),
    "DC755": Code("a stage took too long", 1),
    "DC756": Code("a stage took too much memory", 1),
    "DC757": Code("a stage crashed", 70),
    "DC758": Code("internal error", 70),
    "DC760": Code("torch is not installed", 2),
    "DC761": Code("Python file of the module is missing or fails", 2),
    "DC762": Code("no such factory", 2),
    "DC763": Code("factory makes no module", 2),
    "DC764": Code("shapes do not fit forward()", 2),
    "DC765": Code("torch cannot export the module", 1),
    "DC766": Code("not a usable pipeline.json", 2),
    "DC767": Code("part that is not the one of pipeline.json", 2),
    "DC768": Code("pipeline that cannot be built so", 2),
    "DC769": Code("pipeline that computes something else", 1),
    # DC770-DC779: what lint is told to check, and what it is asked
    "DC770": Code("deploycc.toml cannot be read", 2),
    "DC771": Code("unknown key in deploycc.toml", 2),
    "DC772": Code("bad value in deploycc.toml", 2),
    "DC773": Code("ignore that matches no finding", 1),
    "DC774": Code("not a baseline", 2),
    "DC775": Code("baseline entries that no longer occur", 0),
    "DC776": Code("nothing of that name to explain", 2),
    "DC777": Code("no such rule", 2),
    "DC778": Code("report cannot be written", 2),
    # DC780-DC789: hand-over to other compilers, and networks in parts
    "DC780": Code("network that cannot be handed over whole", 1),
    "DC781": Code("tensor that cannot cross between parts", 1),
    "DC782": Code("parts that compute something else", 1),
    "DC783": Code("part that the accelerator does not take", 1),
    "DC784": Code("--shape of a tensor that has another one", 2),
    "DC785": Code("target that a network is not split for", 2),
    "DC786": Code("target without a converter", 2),
    "DC787": Code("folder of another command", 2),
    "DC788": Code("nodes left to the host by an open shape", 0),
    "DC789": Code("folded network differs from its file", 0),
    # DC790-DC799: rewrites (lint --fix)
    "DC790": Code("rewrite undone", 0),
    "DC791": Code("repaired model would replace the model", 2),
    "DC792": Code("model cannot be run, so no rewrite could be checked", 1),
    "DC793": Code("rewrites do not come to an end", 0),
    "DC794": Code("no rewrite of that name", 2),
    "DC795": Code("repaired model cannot be written", 2),
    # DC800-DC809: running a package
    "DC800": Code("package is for another machine", 2),
    "DC801": Code("runner not found", 2),
    "DC802": Code("package has no library to run", 2),
    "DC803": Code("emulator has no C library", 2),
    "DC804": Code("device cannot be used", 2),
    "DC805": Code("package cannot be run", 1),
    "DC806": Code("package of another interface", 2),
    # DC810-DC819: verifying a package
    "DC810": Code("output beyond its tolerance", 1),
    "DC811": Code("output NaN or infinite where it must not be", 1),
    "DC812": Code("inputs cannot be read", 2),
    "DC813": Code("inputs are not the package's", 2),
    "DC814": Code("nothing to compare with", 2),
    "DC815": Code("model is not the package's", 0),
    "DC816": Code("model has other inputs or outputs", 2),
    "DC817": Code("bad tolerance", 2),
    # DC820-DC829: the search for a wrong layer (verify --bisect)
    "DC820": Code("search for a wrong layer without a model", 2),
    "DC821": Code("package of another model", 2),
    "DC822": Code("reference cannot run the model on these inputs", 1),
    "DC823": Code("folder that holds no reduced model", 2),
    # DC830-DC839: packages timed beside others
    "DC830": Code("no such engine, or not installed", 2),
    "DC831": Code("engines need the model", 2),
    "DC832": Code("engine does not run at that place", 2),
    "DC833": Code("results do not agree", 1),
    "DC834": Code("engine does not run the model", 1),
    "DC835": Code("model or package with other inputs or outputs", 2),
    "DC836": Code("not a saved benchmark", 2),
    "DC837": Code("baseline that cannot be compared", 2),
    "DC838": Code("slower than the baseline", 1),
    # DC840-DC849: profiles
    "DC840": Code("package from before runs could be watched", 2),
    "DC842": Code("target that tells no peak", 2),
    "DC843": Code("profile cannot be written", 2),
    # DC850-DC859: the report of a package
    "DC850": Code("what the build told is broken", 2),
    "DC851": Code("report would change the package", 2),
    "DC852": Code("file is not what was asked for", 2),
    "DC853": Code("measured of another package", 2),
    # DC860-DC869: packages beside each other
    "DC860": Code("packages that cannot be compared in this", 2),
    "DC861": Code("model that neither package was built from", 2),
    # DC870-DC879: memory
    "DC870": Code("more memory than --max-memory", 1),
    # DC880-DC889: kernels of a GPU run on the processor
    "DC880": Code("PTX that is not understood", 1),
    "DC881": Code("GPU kernel failed", 1),
    "DC882": Code("launch that does not fit its kernel", 2),
    "DC883": Code("processor that runs no GPU kernels", 2),
    "DC885": Code("times of a GPU without one", 2),
    "DC886": Code("chip that the package is not for", 2),
    "DC887": Code("GPU kernels that cannot be run on the processor", 1),
    "DC888": Code("GPU package without timers", 2),
}


def render(diagnostic: Diagnostic) -> str:
    """The text a person reads: one headline, then got/need/from/help/line where known."""
    where = " ".join(
        part for part in (diagnostic.op, f"'{diagnostic.node}'" if diagnostic.node else "") if part
    )
    head = f"{diagnostic.severity}[{diagnostic.code}]: {diagnostic.message}"
    lines = [head]
    if where:
        lines.append(f"  at:   {where}")
    rest = (
        ("got", diagnostic.got),
        ("need", diagnostic.need),
        ("from", diagnostic.source),
        ("help", diagnostic.help),
        ("line", diagnostic.location),
    )
    for label, text in rest:
        if text:
            lines.append(f"  {label + ':':<5} {text}")
    return "\n".join(map(printable, lines))


def printable(line: str) -> str:
    """Names come from the model: what could steer a terminal is shown as an escape."""
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in line)


def one_line(line: str) -> str:
    """As ``printable``, and a name with a line break in it makes no line of its own."""
    return printable(line.replace("\n", "\\n"))


def exit_code(diagnostics: Iterable[Diagnostic]) -> int:
    """What the command line leaves with: the highest exit code of the errors, 0 without any."""
    return max((CATALOGUE[d.code].exit_code for d in diagnostics if d.severity == "error"), default=0)
