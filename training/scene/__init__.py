"""The CNN-LSTM scene model: a frozen trunk looks at each frame of a clip, an LSTM with attention says what happens."""
