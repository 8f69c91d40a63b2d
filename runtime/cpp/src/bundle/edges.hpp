// Inputs and outputs that every graph of a bundle has, as the manifest's numbers determine them; the same as those of the
// Python module `alterbute.bundle.edges`.
#pragma once

#include <string>
#include <vector>

#include "bundle/graph_file.hpp"
#include "bundle/manifest.hpp"

namespace alterbute {

struct GraphEdges {
  std::vector<TensorSpec> inputs, outputs;
};

// Of each graph that the manifest has to have; those that a model may lack are among them.
Named<GraphEdges> make_edges(const Manifest& manifest);

// Checks the graphs of a manifest, and their inputs and outputs. Throws typed::KeyFault.
void check_edges(const Manifest& manifest);

// Checks that a graph file declares the edges of its graph. With a prologue it also has the inputs that the prologue
// makes, and may lack those that the prologue reads. Throws BundleError.
void check_declared(const std::string& file, const GraphFile& declared, const Graph& graph,
                    const GraphFile* prologue = nullptr);

// Checks that a prologue reads inputs of its graph and makes none that the graph has already. Throws BundleError.
void check_prologue(const std::string& file, const GraphFile& declared, const Graph& graph);

}  // namespace alterbute
