#pragma once
// How values get from a model that runs to the statistics that look at them.

#include <map>
#include <memory>
#include <vector>

#include "lib/calibration/observed_rows.h"
#include "lib/calibration/statistic.h"
#include "lib/calibration/stream.h"
#include "lib/exec/executor.h"

namespace tcompress::calibration {

/// Statistics that wait for their sources. One with a single source gets it as it is computed; one with
/// several gets them together when the last is there, so those before are kept for so long.
class Deliveries {
  public:
    explicit Deliveries(const std::vector<Statistic*>& statistics);

    bool needs(Side side) const;
    bool needs(const Source& source) const { return find(source) != nullptr; }
    void deliver(const Source& source, const Tensor& tensor, const TokenMask& mask);
    /// Forgets what came without its partners.
    void endBatch();

    /// The values of one side that are waited for.
    std::vector<const ir::Value*> values(Side side) const;

  private:
    struct Waiting {
        Statistic* statistic = nullptr;
        std::vector<std::shared_ptr<ObservedRows>> seen;  ///< by source; null: not yet
    };
    /// Who reads a value, and as which of its sources.
    struct Reader {
        std::size_t waiting = 0;
        std::size_t position = 0;
    };
    using Readers = std::map<const ir::Value*, std::vector<Reader>>;
    const std::vector<Reader>* find(const Source& source) const;
    const Readers& readers(Side side) const { return side == Side::edited ? edited_ : original_; }

    std::vector<Waiting> waiting_;
    Readers edited_, original_;
};

/// One of a stream's models, run from the cut to the values that are waited for.
class ObservedModel : public exec::Observer {
  public:
    ObservedModel(const Stream& stream, Side side, Deliveries& deliveries);
    /// Throws PassError when a value that is looked at is not finite.
    void run(std::size_t batch);

    bool wants(const ir::Value& value) const override { return deliveries_.needs({&value, side_}); }
    void observe(const ir::Value& value, const Tensor& tensor) override;

  private:
    const Stream& stream_;
    Side side_;
    Deliveries& deliveries_;
    TokenMask mask_;
    exec::Executor executor_;
};

}  // namespace tcompress::calibration
