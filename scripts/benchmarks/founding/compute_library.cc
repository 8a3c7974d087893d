// What a product, a convolution and a small network take of the heap in Arm Compute Library.
//
// Usage: compute_library product|convolution|network. Prints a line of JSON: bytes on the heap
// before the tensors are allocated, after, and after the first run, and the most until then.
#include "arm_compute/core/Types.h"
#include "arm_compute/runtime/NEON/NEFunctions.h"
#include "arm_compute/runtime/NEON/NEScheduler.h"
#include "arm_compute/runtime/Tensor.h"

#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <list>
#include <memory>
#include <vector>

extern "C" {
long account_held(void);
long account_most(void);
void account_restart(void);
}

using namespace arm_compute;

namespace {

// Tensors and functions of one job, which run one after another.
class Job {
  public:
    Tensor *tensor(const TensorShape &shape) {
        tensors_.emplace_back();
        TensorInfo info(shape, 1, DataType::F32);
        info.set_data_layout(DataLayout::NHWC);
        tensors_.back().allocator()->init(info);
        return &tensors_.back();
    }

    template <class Function> Function *add() {
        functions_.push_back(std::make_unique<Function>());
        return static_cast<Function *>(functions_.back().get());
    }

    void allocate() {
        for (Tensor &tensor : tensors_)
            tensor.allocator()->allocate();
    }

    void run() {
        for (auto &function : functions_)
            function->run();
    }

    // Small numbers everywhere: what lies in new memory may be slow to compute with.
    void fill() {
        for (Tensor &tensor : tensors_) {
            auto *values = reinterpret_cast<float *>(tensor.buffer());
            for (size_t i = 0; i < tensor.info()->total_size() / sizeof(float); i++)
                values[i] = static_cast<float>(i % 7) / 64;
        }
    }

    Tensor *convolution(Tensor *input, int channels, int outputs, int kernel, int size, int pad) {
        Tensor *weights = tensor(TensorShape(channels, kernel, kernel, outputs));
        Tensor *bias = tensor(TensorShape(outputs));
        int width = size + 2 * pad - kernel + 1;
        Tensor *output = tensor(TensorShape(outputs, width, width));
        ActivationLayerInfo relu(ActivationLayerInfo::ActivationFunction::RELU);
        add<NEConvolutionLayer>()->configure(input, weights, bias, output,
                                             PadStrideInfo(1, 1, pad, pad), WeightsInfo(),
                                             Size2D(1, 1), relu);
        return output;
    }

    Tensor *pooling(Tensor *input, int channels, int size) {
        Tensor *output = tensor(TensorShape(channels, size / 2, size / 2));
        PoolingLayerInfo info(PoolingType::MAX, 2, DataLayout::NHWC, PadStrideInfo(2, 2, 0, 0));
        add<NEPoolingLayer>()->configure(input, output, info);
        return output;
    }

    Tensor *dense(Tensor *input, int inputs, int outputs) {
        Tensor *weights = tensor(TensorShape(inputs, outputs));
        Tensor *bias = tensor(TensorShape(outputs));
        Tensor *output = tensor(TensorShape(outputs));
        add<NEFullyConnectedLayer>()->configure(input, weights, bias, output);
        return output;
    }

  private:
    std::list<Tensor> tensors_;
    std::vector<std::unique_ptr<IFunction>> functions_;
};

void product(Job &job) {
    Tensor *a = job.tensor(TensorShape(480, 640)), *b = job.tensor(TensorShape(480, 480));
    job.add<NEGEMM>()->configure(a, b, nullptr, job.tensor(TensorShape(480, 640)), 1.f, 0.f);
}

void convolution(Job &job) {
    job.convolution(job.tensor(TensorShape(64, 56, 56)), 64, 64, 3, 56, 1);
}

// LeNet-5 with maxima, of images of 28x28 (LeCun et al., Gradient-Based Learning, 1998).
void network(Job &job) {
    Tensor *x = job.convolution(job.tensor(TensorShape(1, 28, 28)), 1, 6, 5, 28, 2);
    x = job.convolution(job.pooling(x, 6, 28), 6, 16, 5, 14, 0);
    x = job.dense(job.pooling(x, 16, 10), 400, 120);
    x = job.dense(job.dense(x, 120, 84), 84, 10);
    job.add<NESoftmaxLayer>()->configure(x, job.tensor(TensorShape(10)));
}

} // namespace

int main(int argc, char **argv) {
    const struct {
        const char *name;
        std::function<void(Job &)> configure;
    } kinds[] = {{"product", product}, {"convolution", convolution}, {"network", network}};
    NEScheduler::get().set_num_threads(1);
    for (auto &kind : kinds) {
        if (argc != 2 || std::strcmp(argv[1], kind.name))
            continue;
        account_restart();
        long before = account_held();
        Job job;
        kind.configure(job);
        job.allocate();
        long allocated = account_held();
        job.fill();
        job.run();
        std::printf("{\"before\": %ld, \"allocated\": %ld, \"after\": %ld, \"most\": %ld}\n",
                    before, allocated, account_held(), account_most());
        return 0;
    }
    std::fprintf(stderr, "usage: compute_library product|convolution|network\n");
    return 2;
}
