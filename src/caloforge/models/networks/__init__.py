"""Networks and densities that know nothing of calorimeters: splines, autoregressive and coupling flows."""
