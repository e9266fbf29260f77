"""Nodes for ComfyUI. This folder, or a link to it, goes into ``ComfyUI/custom_nodes``; see its README."""

if __name__ == "apisr":  # ComfyUI names a pack by its folder; this one would hide the package
    raise ImportError("call the folder of the nodes 'comfyui-apisr', not 'apisr', which is the package's name")

from .nodes import Upscale, UpscaleToHeight

NODE_CLASS_MAPPINGS = {"ApisrUpscale": Upscale, "ApisrUpscaleToHeight": UpscaleToHeight}
NODE_DISPLAY_NAME_MAPPINGS = {"ApisrUpscale": "Upscale (apisr)", "ApisrUpscaleToHeight": "Upscale to Height (apisr)"}

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]
