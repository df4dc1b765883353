#pragma once
// What a convolution kernel keeps between calls; each kernel knows its own kind.

namespace tcompress::kernels {

class ConvolutionCache {
  public:
    ConvolutionCache() = default;
    virtual ~ConvolutionCache() = default;
    ConvolutionCache(const ConvolutionCache&) = delete;
    ConvolutionCache& operator=(const ConvolutionCache&) = delete;
};

}  // namespace tcompress::kernels
