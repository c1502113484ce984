"""torch_geometric and dgl: the layers of graph networks, as their manuals document them."""

from trainlint.libraries.spec import Layer, Spec, Table

_BATCH_NORM = Layer(
    sensitive=True, unless_false="track_running_stats", weights_unless_false="affine"
)
_INSTANCE_NORM = Layer(sensitive=True, only_if="track_running_stats", weights_only_if="affine")
_AROUND = Layer(parametric=False, container=True)
"""It has the weights of the network it is given, and ends with what that one ends with."""
_FREE = Layer(parametric=False)


def _attention(position: int) -> Layer:
    """Drops attention weights, which are all kept unless a rate is given."""
    return Layer(sensitive=True, activation="none", rates=(("dropout", position),))


_GEOMETRIC: dict[str, Spec] = {
    **dict.fromkeys(
        "GCNConv SAGEConv ChebConv GraphConv SGConv TAGConv ClusterGCNConv LEConv MFConv RGCNConv"
        " FastRGCNConv PNAConv GMMConv SplineConv NNConv GravNetConv FeaStConv"
        " DenseGCNConv DenseSAGEConv DenseGraphConv Linear HeteroLinear".split(),
        Layer(activation="none"),
    ),
    **dict.fromkeys(
        "GatedGraphConv ResGatedGraphConv GCN2Conv FAConv AGNNConv LayerNorm GraphNorm"
        " HeteroLayerNorm".split(),
        Layer(),
    ),
    **dict.fromkeys("PairNorm GraphSizeNorm LGConv".split(), _FREE),
    **dict.fromkeys("GATConv GATv2Conv SuperGATConv TransformerConv".split(), _attention(5)),
    "DenseGATConv": _attention(5),
    "CGConv": Layer(sensitive=True, only_if="batch_norm"),
    "HypergraphConv": _attention(-1),
    "APPNP": Layer(sensitive=True, parametric=False, rates=(("dropout", 2),)),
    "GINConv": _AROUND,
    "GINEConv": _AROUND,
    "EdgeConv": _AROUND,
    "DynamicEdgeConv": _AROUND,
    "DenseGINConv": _AROUND,
    "BatchNorm": _BATCH_NORM,
    "HeteroBatchNorm": _BATCH_NORM,
    "InstanceNorm": _INSTANCE_NORM,
}


def _activated(position: int, rates: tuple[tuple[str, int], ...] = ()) -> Layer:
    """Linear in the features of the nodes, unless it is given an activation to end with."""
    return Layer(
        sensitive=bool(rates), activation="none", unless_given=("activation", position), rates=rates
    )


_DGL: dict[str, Spec] = {
    "GraphConv": _activated(5),
    "DenseGraphConv": _activated(4),
    "TAGConv": _activated(4),
    "SAGEConv": _activated(6, (("feat_drop", 3),)),
    "DenseSAGEConv": _activated(5, (("feat_drop", 2),)),
    "GATConv": _activated(7, (("feat_drop", 3), ("attn_drop", 4))),
    "GATv2Conv": _activated(7, (("feat_drop", 3), ("attn_drop", 4))),
    "RelGraphConv": Layer(sensitive=True, rates=(("dropout", -1),)),
    "HGTConv": Layer(sensitive=True, unless_zero="dropout"),
    "EdgeConv": Layer(sensitive=True, only_if="batch_norm"),
    "APPNPConv": Layer(sensitive=True, parametric=False, rates=(("edge_drop", 2),)),
    "GINConv": _AROUND,
    "GINEConv": _AROUND,
    **dict.fromkeys(
        "ChebConv DenseChebConv SGConv GatedGraphConv GMMConv AGNNConv NNConv GCN2Conv EGATConv"
        " DotGatConv CFConv".split(),
        Layer(),
    ),
    **dict.fromkeys("SumPooling AvgPooling MaxPooling SortPooling".split(), _FREE),
}

GRAPH = Table(
    calls={
        **{f"torch_geometric.nn.{name}": spec for name, spec in _GEOMETRIC.items()},
        **{f"dgl.nn.{name}": spec for name, spec in _DGL.items()},
    },
    aliases=(
        ("torch_geometric.nn.conv", "torch_geometric.nn"),
        ("torch_geometric.nn.norm", "torch_geometric.nn"),
        ("torch_geometric.nn.dense", "torch_geometric.nn"),
        ("dgl.nn.pytorch.conv", "dgl.nn"),
        ("dgl.nn.pytorch.glob", "dgl.nn"),
        ("dgl.nn.pytorch", "dgl.nn"),
    ),
)
