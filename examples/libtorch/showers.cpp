// Showers of a model that `caloforge export --to torchscript` wrote.
//   ./showers model.pt OUT N ENERGY_MEV THETA PHI SEED NOISE_SHAPE...
// e.g. ./showers showertree-siw.pt out.bin 10 10000 1.5707963 0 7 2 44x2 6435x2
// The shapes of the noise are those that the command prints. OUT gets N showers of float32, MeV, (z, phi, r).
#include <ATen/Parallel.h>
#include <torch/script.h>

#include <cstdlib>
#include <fstream>
#include <iostream>
#include <sstream>
#include <vector>

int main(int argc, char** argv) {
  if (argc < 9) {
    std::cerr << "model.pt OUT N ENERGY_MEV THETA PHI SEED NOISE_SHAPE...\n";
    return 2;
  }
  try {
    at::set_num_threads(1);
    torch::NoGradGuard no_grad;
    torch::jit::script::Module model = torch::jit::load(argv[1]);
    const int64_t n = std::atoll(argv[3]);
    std::vector<torch::jit::IValue> inputs;
    for (int i = 4; i < 7; ++i) inputs.push_back(torch::full({n}, std::atof(argv[i]), torch::kFloat32));
    torch::manual_seed(std::atoll(argv[7]));  // or fill these from your own random engine
    for (int i = 8; i < argc; ++i) {
      std::vector<int64_t> shape{n};
      std::stringstream text(argv[i]);
      for (std::string part; std::getline(text, part, 'x');) shape.push_back(std::stoll(part));
      inputs.push_back(torch::randn(shape));
    }
    const at::Tensor showers = model.forward(inputs).toTensor().contiguous();
    std::ofstream out(argv[2], std::ios::binary);
    out.write(static_cast<const char*>(showers.data_ptr()), showers.nbytes());
    return out.good() ? 0 : 1;
  } catch (const std::exception& error) {  // of c10, too
    std::cerr << error.what() << "\n";
    return 1;
  }
}
