// Answers requests on stdin, so that a test pays the start of a process once. A request is a line of JSON with "do" and
// "bytes": [n, ...], then the bytes of each n; an answer is such a line with "bytes" or "error", then the bytes.
#include <algorithm>
#include <charconv>
#include <cstdio>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "alterbute/alterbute.hpp"
#include "backends/cuda/cuda_backend.hpp"
#include "bundle/bundle.hpp"
#include "bundle/graph_file.hpp"
#include "bundle/json.hpp"
#include "denoise/noise.hpp"
#include "denoise/solver_table.hpp"
#include "driver_request.hpp"
#include "encode/tokenizer.hpp"
#include "host_device.hpp"
#include "images/color_space.hpp"

namespace {

using alterbute::Json;
using driver::Answer;
using driver::Blobs;
using driver::make;
using driver::Request;
using driver::whole;

std::string floats(const std::vector<float>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)};
}
std::string bytes(const std::vector<std::uint8_t>& values) { return {values.begin(), values.end()}; }

class Driver {
 public:
  Answer answer(const Request& request) {
    static const std::map<std::string, void (Driver::*)(const Request&, Answer&)> kVerbs = {
        {"noise", &Driver::noise},       {"tokenizer", &Driver::tokenizer}, {"tokens", &Driver::tokens},
        {"manifest", &Driver::manifest}, {"bundle", &Driver::bundle},       {"solver", &Driver::solver},
        {"warnings", &Driver::warnings}, {"open", &Driver::open},           {"edit", &Driver::edit},
        {"colors", &Driver::colors},     {"warm_up", &Driver::warm_up},     {"close", &Driver::close},
        {"device", &Driver::device},     {"graph_file", &Driver::graph_file}};
    Answer answer;
    const auto run = [&] {
      try {
        (this->*kVerbs.at(request.text("do")))(request, answer);
      } catch (const alterbute::Error& fault) {
        answer = refusal(fault);
      }
    };
    if (request.find("thread") == nullptr) run();
    else std::thread(run).join();
    return answer;
  }

 private:
  static Answer refusal(const alterbute::Error& fault) {
    Answer answer;
    const auto* input = dynamic_cast<const alterbute::InputError*>(&fault);
    const auto* device = dynamic_cast<const alterbute::DeviceError*>(&fault);
    answer.add("error", std::string(input != nullptr                                                 ? "InputError"
                                    : dynamic_cast<const alterbute::BundleError*>(&fault) != nullptr ? "BundleError"
                                    : device != nullptr && device->is_fatal()                        ? "fatal DeviceError"
                                    : device != nullptr                                              ? "DeviceError"
                                    : dynamic_cast<const alterbute::EngineError*>(&fault) != nullptr ? "EngineError"
                                                                                                     : "Cancelled"));
    answer.add("message", std::string(fault.what()));
    answer.add("param", input == nullptr ? std::string() : input->param());
    answer.add("code", input == nullptr ? std::string() : input->code());
    return answer;
  }

  void noise(const Request& request, Answer& answer) {
    std::vector<float> values(static_cast<std::size_t>(request.integer("size")));
    alterbute::draw_noise(static_cast<std::uint64_t>(request.integer("seed")),
                          static_cast<std::uint32_t>(request.integer("image")),
                          static_cast<std::uint32_t>(request.integer("step")), values.data(), values.size());
    answer.blobs.push_back(floats(values));
  }

  void tokenizer(const Request& request, Answer&) {
    alterbute::TextRules rules;
    rules.tokens = request.integer("tokens");
    rules.start_id = request.integer("start_id");
    rules.end_id = request.integer("end_id");
    rules.pad_id = request.integer("pad_id");
    tokenizer_ = std::make_unique<alterbute::Tokenizer>(request.blob(0), rules);
  }

  // Prompts are blobs; the answer holds ids by prompt, or its refusal.
  void tokens(const Request& request, Answer& answer) {
    Json all;
    all.kind = Json::Kind::array;
    for (std::int64_t k = 0; k < request.integer("count"); ++k) {
      try {
        all.items.push_back(make(tokenizer_->encode(request.blob(static_cast<std::size_t>(k)))));
      } catch (const alterbute::Error& fault) {
        all.items.push_back(make(std::string(fault.what())));
      }
    }
    answer.line.fields.emplace_back("ids", std::move(all));
  }

  void manifest(const Request& request, Answer& answer) {
    answer.add("name", alterbute::parse_manifest(request.blob(0)).name);
  }

  // The inputs of a graph file whose weights have `size` bytes.
  void graph_file(const Request& request, Answer& answer) {
    std::vector<std::string> names;
    const auto size = static_cast<std::uint64_t>(request.integer("size"));
    for (const auto& edge : alterbute::read_graph_file("decode.onnx", request.blob(0), {{"weights.bin", size}}).inputs)
      names.push_back(edge.name);
    answer.add("inputs", names);
  }

  void bundle(const Request& request, Answer& answer) {
    std::vector<std::string> keys;
    if (request.find("trust_key") != nullptr) keys = {request.text("trust_key")};
    if (const Json* several = request.find("trust_keys"))
      for (const Json& key : several->items) keys.push_back(key.text);
    const alterbute::Bundle bundle = alterbute::Bundle::open(request.text("path"), alterbute::read_trust_keys(keys));
    if (request.text("how") == "verify") bundle.verify();
    if (request.text("how") == "read") {
      const alterbute::Bytes data = bundle.read(request.text("name"));
      answer.blobs.emplace_back(data.begin(), data.end());
    }
  }

  void solver(const Request& request, Answer& answer) {
    if (request.text("table") != table_path_) {
      table_ = std::make_unique<alterbute::SolverTable>(request.blob(0));
      table_path_ = request.text("table");
    }
    const alterbute::SolverSteps steps =
        table_->steps(request.text("solver"), request.integer("steps"), request.number("strength").value_or(1));
    std::vector<float> matrix, level;
    for (const auto& one : steps.matrix) matrix.insert(matrix.end(), one.begin(), one.end());
    for (const auto& one : steps.level) level.insert(level.end(), one.begin(), one.end());
    answer.blobs = {floats(steps.timestep), floats(matrix), floats(level),
                    floats({steps.start.begin(), steps.start.end()})};
  }

  void warnings(const Request& request, Answer& answer) {
    const alterbute::Manifest manifest = alterbute::parse_manifest(request.blob(0));
    std::vector<std::string> lines;
    for (std::int64_t k = 0; k < request.integer("count"); ++k)
      lines.push_back(
          alterbute::vocabulary_warning(request.blob(static_cast<std::size_t>(k + 1)), manifest.attributes));
    answer.add("lines", lines);
  }

  // The pixels of the second blob, converted from the profile of the first to sRGB, or to it.
  void colors(const Request& request, Answer& answer) {
    const alterbute::ColorSpace space(request.blob(0).data(), request.blob(0).size(), "photo");
    const std::string& bytes = request.blob(1);
    alterbute::Array pixels(alterbute::DType::uint8, {1, static_cast<std::int64_t>(bytes.size() / 3), 3});
    std::copy(bytes.begin(), bytes.end(), pixels.as<char>());
    const bool is_back = request.text("to") == "profile";
    const alterbute::Array converted = is_back ? space.from_srgb(pixels) : space.to_srgb(pixels);
    answer.blobs.emplace_back(converted.as<char>(), converted.bytes());
  }

  void open(const Request& request, Answer& answer) {
    alterbute::EditorOptions options;
    if (request.find("slots") != nullptr) options.slots = static_cast<int>(request.integer("slots"));
    if (request.find("device") != nullptr) options.device = request.text("device");
    options.exact = request.find("exact") != nullptr;
    options.onnxruntime = request.text("onnxruntime");
    options.threads = static_cast<int>(request.integer("threads"));
    options.cuda_stream = reinterpret_cast<void*>(request.integer("cuda_stream"));
    if (request.find("makes_stream") != nullptr) options.cuda_stream = alterbute::make_cuda_stream();
    alterbute::host_functions = request.find("on_host") == nullptr ? nullptr : &alterbute::host_device();
    // What cannot be opened leaves the editor that is open.
    auto opened = std::make_unique<alterbute::Editor>(request.text("path"), options);
    if (request.find("load") != nullptr) opened->load();
    editor_ = std::move(opened);
    answer.add("solvers", editor_->solvers());
  }

  void warm_up(const Request&, Answer&) { editor_->warm_up(); }
  void close(const Request&, Answer&) { editor_.reset(); }

  // Makes a function of the host's device fail, and tells how it was used.
  void device(const Request& request, Answer& answer) {
    const std::string function = request.text("function");
    alterbute::fail_host_device(function, static_cast<int>(request.integer("code")), request.integer("at"));
    answer.add("allocations", alterbute::host_device_allocations());
    answer.add("calls", alterbute::host_device_calls(function));
  }

  static alterbute::Request edit_request(const Request& from) {
    alterbute::Request request;
    request.prompt = from.text("prompt");
    request.negative_prompt = from.text("negative_prompt");
    if (from.find("seed") != nullptr) request.seed = from.integer("seed");
    if (from.find("steps") != nullptr) request.steps = static_cast<int>(from.integer("steps"));
    if (from.find("solver") != nullptr) request.solver = from.text("solver");
    if (from.find("reinject") != nullptr) request.reinject = from.find("reinject")->flag;
    static const std::map<std::string, alterbute::Detail> kDetails = {{"", alterbute::Detail::automatic},
                                                                      {"auto", alterbute::Detail::automatic},
                                                                      {"photo", alterbute::Detail::photo},
                                                                      {"model", alterbute::Detail::model}};
    request.detail = kDetails.at(from.text("detail"));
    if (from.find("count") != nullptr) request.count = static_cast<int>(from.integer("count"));
    request.strength = from.number("strength");
    request.guidance = from.number("guidance");
    request.identity_guidance = from.number("identity_guidance");
    request.guidance_rescale = from.number("guidance_rescale");
    request.identity_scale = from.number("identity_scale").value_or(1);
    if (const Json* interval = from.find("guidance_interval"))
      request.guidance_interval = {interval->items[0].number, interval->items[1].number};
    return request;
  }

  static alterbute::MaskOptions mask_options(const Request& from) {
    static const std::map<std::string, alterbute::Polarity> kPolarities = {{"", alterbute::Polarity::automatic},
                                                                           {"auto", alterbute::Polarity::automatic},
                                                                           {"alpha", alterbute::Polarity::alpha},
                                                                           {"white", alterbute::Polarity::white},
                                                                           {"black", alterbute::Polarity::black},
                                                                           {"opaque", alterbute::Polarity::opaque}};
    static const std::map<std::string, alterbute::MaskKind> kKinds = {{"", alterbute::MaskKind::precise},
                                                                      {"precise", alterbute::MaskKind::precise},
                                                                      {"box", alterbute::MaskKind::box},
                                                                      {"soft", alterbute::MaskKind::soft}};
    alterbute::MaskOptions options;
    options.polarity = kPolarities.at(from.text("mask_polarity"));
    options.kind = kKinds.at(from.text("mask_kind"));
    options.protect = from.image("protect");
    if (from.find("rim") != nullptr) options.rim = static_cast<int>(from.integer("rim"));
    options.value = from.text("mask_value");
    if (from.find("dilate") != nullptr) options.dilate = static_cast<int>(from.integer("dilate"));
    return options;
  }

  void edit(const Request& from, Answer& answer) {
    std::optional<alterbute::Reference> reference;
    if (const auto picture = from.image("reference"))
      reference = alterbute::Reference{*picture, from.image("reference_mask")};
    std::vector<std::int64_t> told;
    alterbute::Callbacks callbacks;
    callbacks.progress = [&](const alterbute::Progress& done) {
      for (const int number : {done.image, done.images, done.step, done.steps}) told.push_back(number);
    };
    std::int64_t asked = 0;
    if (from.find("cancel_at") != nullptr) callbacks.cancel = [&] { return asked++ == from.integer("cancel_at"); };
    const alterbute::Request request = edit_request(from);
    const alterbute::ImageView mask = from.image("mask").value_or(alterbute::ImageView{});
    const auto color = from.text("color") == "as_srgb" ? alterbute::Color::as_srgb : alterbute::Color::convert;
    std::vector<alterbute::Result> results;
    if (const Json* several = from.find("requests")) {
      edit_several(from, *several, answer);
      return;
    }
    if (request.count == 1) {
      results.push_back(
          editor_->edit(*from.image("photo"), mask, request, callbacks, reference, mask_options(from), color));
    } else {
      results = editor_->prepare(*from.image("photo"), mask, reference, mask_options(from), color)
                    .edit_many({request}, callbacks);
    }
    for (const alterbute::Result& result : results) {
      answer.blobs.push_back(bytes(result.image.pixels));
      answer.blobs.push_back(bytes(result.alpha.pixels));
    }
    const alterbute::Timings& spent = results[0].timings;
    answer.add("seed", results[0].seed);
    answer.add("channels", std::int64_t{results[0].image.channels});
    answer.add("bits", std::int64_t{results[0].image.bits});
    answer.add("warnings", results[0].warnings);
    answer.add("progress", told);
    answer.add("detail", std::string(results[0].detail == alterbute::Detail::photo ? "photo" : "model"));
    answer.add("detail_threshold", std::vector<double>{results[0].detail_threshold});
    answer.add("timings",
               std::vector<double>{spent.window, spent.encode, spent.steps, spent.decode, spent.paste, spent.engine});
  }

  // One call of edit_many: an image's bytes, or an empty blob and its fault.
  void edit_several(const Request& from, const Json& requests, Answer& answer) {
    std::vector<alterbute::Request> all;
    for (const Json& line : requests.items) all.push_back(edit_request(Request(line, {})));
    const alterbute::Subject subject =
        editor_->prepare(*from.image("photo"), *from.image("mask"), std::nullopt, mask_options(from));
    std::vector<std::string> faults(all.size());
    const auto add = [&](const alterbute::Result& result) { answer.blobs.push_back(bytes(result.image.pixels)); };
    try {
      for (const alterbute::Result& result : subject.edit_many(all)) add(result);
    } catch (const alterbute::PartialEditError& partial) {
      for (std::size_t at = 0; at < faults.size(); ++at) {
        add(partial.results()[at].value_or(alterbute::Result()));
        if (partial.faults()[at]) faults[at] = partial.faults()[at]->what();
      }
      answer.add("message", std::string(partial.what()));
    }
    answer.add("faults", faults);
  }

  std::unique_ptr<alterbute::Tokenizer> tokenizer_;
  std::unique_ptr<alterbute::SolverTable> table_;
  std::string table_path_ = "none";
  std::unique_ptr<alterbute::Editor> editor_;
};

}  // namespace

int main() {
  std::ios::sync_with_stdio(false);
  Driver driver;
  for (std::string line; std::getline(std::cin, line);) {
    Json request = alterbute::parse_json(line);
    Blobs blobs;
    if (const Json* sizes = request.find("bytes")) {
      for (const Json& size : sizes->items) {
        blobs.emplace_back(static_cast<std::size_t>(whole(size)), '\0');
        std::cin.read(blobs.back().data(), static_cast<std::streamsize>(blobs.back().size()));
      }
    }
    Answer answer = driver.answer(Request(std::move(request), std::move(blobs)));
    std::vector<std::int64_t> sizes;
    for (const std::string& blob : answer.blobs) sizes.push_back(static_cast<std::int64_t>(blob.size()));
    answer.add("bytes", sizes);
    std::cout << alterbute::dump_json(answer.line) << '\n';
    for (const std::string& blob : answer.blobs)
      std::cout.write(blob.data(), static_cast<std::streamsize>(blob.size()));
    std::cout.flush();
  }
  return 0;
}
