"""Model families: what the engine and the adapters need to know of each model of transformers.

A family is one file with the constant FAMILY, listed in `registry`. Nothing here imports torch.

bert: BERT
camembert: CamemBERT
deberta_v2: DeBERTa-v2 and v3
distilbert: DistilBERT
electra: ELECTRA
family: the description of a family: names of modules and tensors, head, config keys
registry: the table of all families, by the model_type of config.json
roberta: RoBERTa
xlm_roberta: XLM-RoBERTa
"""
