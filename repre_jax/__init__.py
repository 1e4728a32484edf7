"""RePre (Wang et al., 2022) in JAX and Flax: contrastive pre-training of vision transformers with a pixel branch.

Rooms, lowest first; imports point down only (tests/test_layers.py holds this):
  core        types, errors, sharding, schedules, optimiser, checkpoints, metrics
  losses      pure array functions
  models      encoders, heads, decoder
  data        records -> uint8 views on the host -> augmented views on the device
  frameworks  one file per contrastive framework
  train       the reconstruction branch, the training step, the loop
  evaluation  features, k-NN, and the numbers that figures show
  report      the terminal's lines, a run's page, figures, TensorBoard's and W&B's logs
  tasks       what main.py runs: run(config, workdir) -> results
"""
